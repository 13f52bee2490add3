"""Estimates from compiled text are correct for hand-written programs with known sums."""

from collections import Counter
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

import ssddl_jax as sd
from ssddl_jax.measure import kernel_bundles
from ssddl_jax.measure.estimate import estimate
from ssddl_jax.measure.kernel_bundles import Bundles, Kernel, bundles_in, count_bundles
from ssddl_jax.simulation.hlo import MODULES, OTHER, computations, elements, entry, scopes_of

V5E = "TPU v5 lite"
CLOCK, MEMORY, LINKS = 1.5e9, 819e9, 200e9


def fusion(name, cycles, path, inside="plain"):
    """A line of a compiled text."""
    told = f', backend_config={{"estimated_cycles":"{cycles}"}}' if cycles else ""
    path = f', metadata={{op_name="jit(ssddl_round)/{path}/add" stack_frame_id=7}}' if path else ""
    return f"  %{name} = u32[8]{{0:T(128)}} fusion(%a), kind=kLoop, calls=%{inside}{path}{told}"


PLAIN = """
%plain (p.0: u32[8]) -> u32[8] {
  %p.0 = u32[8]{0:T(128)} parameter(0)
  ROOT %add.0 = u32[8]{0:T(128)} add(%p.0, %p.0)
}
"""
LOOP = "(s32[]{:T(128)}, u32[8]{0:T(128)})"


def program(*lines, others=""):
    """A compiled text whose entry has these lines."""
    body = "\n".join(lines)
    return f"""HloModule jit_ssddl_round, is_scheduled=true, entry_computation_layout={{()->()}}

FileNames
1 "file.py"
{PLAIN}{others}
ENTRY %main.1 (a: u32[8]) -> u32[8] {{
  %a = u32[8]{{0:T(128)}} parameter(0)
{body}
}}
"""


def bundles(kernel):
    """Of any kernel: 20 a key, 5 besides."""
    return Bundles(20, 5)


def seconds(modules):
    """Of every module, from cycles of some."""
    return pytest.approx({name: modules.get(name, 0) / CLOCK for name in (*MODULES, OTHER)})


TOLD = 'backend_config={"known_trip_count":{"n":"5"}}'
NESTED = f"""
%inner_body (i: (s32[], u32[8])) -> (s32[], u32[8]) {{
  %i = {LOOP} parameter(0)
{fusion("f.inner", 10, "LocalTrain/while/body/train")}
  ROOT %t.1 = {LOOP} tuple(%n.1, %f.inner)
}}

%inner_condition (ic: (s32[], u32[8])) -> pred[] {{
  %ic = {LOOP} parameter(0)
  %far = s32[]{{:T(128)}} constant(99)
  ROOT %lt.1 = pred[] compare(%n.2, %far), direction=LT
}}

%bound (b.0: s32[]) -> pred[] {{
  %b.0 = s32[]{{:T(128)}} parameter(0)
  %three = s32[]{{:T(128)}} constant(3)
  ROOT %lt.2 = pred[]{{:T(512)}} compare(%b.0, %three), direction=LT
}}

%outer_condition (oc: (s32[], u32[8])) -> pred[] {{
  %oc = {LOOP} parameter(0)
  ROOT %lt.3 = pred[] fusion(%n.3), kind=kLoop, calls=%bound
}}

%outer_body (o: (s32[], u32[8])) -> (s32[], u32[8]) {{
  %o = {LOOP} parameter(0)
{fusion("f.outer", 100, "LocalTrain/while/body/encode")}
  %w.inner = {LOOP} while(%o), condition=%inner_condition, body=%inner_body, {TOLD}
  ROOT %t.2 = {LOOP} tuple(%n.4, %f.outer)
}}
"""
WHILE = f"  %w.outer = {LOOP} while(%t), condition=%outer_condition, body=%outer_body"


def test_loops_in_loops():
    """The outer one's bound is only in its condition's fusion, the inner one's is told."""
    found = estimate(program(WHILE, fusion("f.add", 7, "LocalTrain/add"), others=NESTED), V5E)
    assert found["cycles"] == 3 * (100 + 5 * 10) + 7
    assert found["seconds_by_module"] == seconds({"LocalTrain": 457})
    assert found["seconds"] == pytest.approx(457 / CLOCK)
    assert found["steps"] == 3 * (1 + 5) + 1
    assert found["kernels"] == []
    # The condition's fusion has no estimate, but belongs to the loop.
    assert found["operations_without_estimate"] == {}


def test_a_loop_without_a_bound_counts_once_and_is_named():
    others = f"""
%endless (e: (s32[], u32[8])) -> pred[] {{
  %e = {LOOP} parameter(0)
  ROOT %more = pred[] get-tuple-element(%e), index=0
}}

%step (s: (s32[], u32[8])) -> (s32[], u32[8]) {{
{fusion("f.step", 11, "SelectGroup/while/body")}
}}
"""
    loop = f"  %w = {LOOP} while(%t), condition=%endless, body=%step"
    found = estimate(program(loop, others=others), V5E)
    assert found["seconds_by_module"] == seconds({"SelectGroup": 11})
    assert found["operations_without_estimate"] == {"while, counted once": 1}


KERNEL = (
    "  %key_sums_chacha20_signed_halves.3 = u32[6,2,16,32,128]{4,3,2,1,0:T(8,128)} custom-call(%k, "
    '%w, %f), custom_call_target="tpu_custom_call", operand_layout_constraints={u32[6,3,8]{2,1,0}, '
    "u32[6,1,3]{2,1,0}, u32[1]{0}}, metadata={op_name="
    '"jit(ssddl_round)/ParaShare/shard_map/words/key_sums_chacha20_signed_halves/pallas_call"}'
)
WORDS = 6 * 3 * 2 * 16 * 16 * 128  # rows, keys, groups of 16 x 128 blocks, words of a block
KERNEL_CYCLES = 6 * 2 * (5 + 3 * 20)


def test_a_kernel_by_its_shapes_and_its_bundles():
    found = estimate(program(KERNEL), V5E, bundles)
    (kernel,) = found["kernels"]
    assert kernel == {
        "kernel": "key_sums_chacha20_signed_halves",
        "module": "ParaShare/words",
        "calls": 1,
        "grid": [6, 2],
        "keys_per_step": 3,
        "words": WORDS,
        "words_per_key": 32_768,
        "bundles_per_key": 20,
        "bundles_per_step_overhead": 5,
        "cycles": KERNEL_CYCLES,
        "gwords_per_s": pytest.approx(WORDS / KERNEL_CYCLES * 1.5),
        "gwords_per_s_inner_loop": pytest.approx(32_768 / 20 * 1.5),
    }
    assert found["seconds_by_module"] == seconds({"ParaShare": KERNEL_CYCLES})
    assert found["steps"] == 1
    assert found["operations_without_estimate"] == {}


def test_a_kernel_whose_keys_have_nonces():
    found = estimate(program(KERNEL.replace("3,8]", "3,11]")), V5E, bundles)
    assert found["kernels"][0]["words"] == WORDS


def test_a_short_kernel_has_half_the_blocks():
    short = KERNEL.replace("32,128]", "8,128]")
    (kernel,) = estimate(program(short), V5E, bundles)["kernels"]
    assert (kernel["grid"], kernel["words_per_key"]) == ([6, 1], 16_384)
    assert kernel["words"] == 6 * 3 * 16_384


def test_another_kernel_is_named_as_without_an_estimate():
    other = KERNEL.replace("key_sums_", "their_")
    found = estimate(program(other), V5E, bundles)
    assert found["kernels"] == []
    assert found["operations_without_estimate"] == {"tpu_custom_call": 1}
    assert found["seconds"] == 0


def gpu_line(name, us, scope, kind="fusion(%a), kind=kLoop, calls=%plain"):
    """A line of a program for a GPU."""
    cost = f'[{{"end_to_end_cycles":0,"exec_time_us":{us},"compute_time_us":0,"name":"sol"}}]'
    path = f'metadata={{op_name="jit(ssddl_round)/{scope}/add"}}'
    return f'  %{name} = u32[8]{{0}} {kind}, {path}, backend_config={{"reification_cost":{cost}}}'


GPU_KERNEL = (
    "  %pallas_call.0 = u32[40,1,16,3181]{3,2,1,0} custom-call(%k, %w, %f), "
    'custom_call_target="__gpu$xla.gpu.triton", operand_layout_constraints={u32[40,7,KEY]{2,1,0}, '
    'u32[1,40,7]{2,1,0}, u32[1]{0}}, metadata={op_name="jit(ssddl_round)/ParaShare/words/'
    'key_sums_chacha20_weighted/pallas_call"}, backend_config={name = "key_sums_chacha20_weighted"}'
)


@pytest.mark.parametrize("key", ["8", "11"])
def test_a_round_on_a_gpu(key):
    """Fusions and products by the compiler's microseconds, the kernel by its words."""
    product = 'custom-call(%a), custom_call_target="__cublas$lt$matmul"'
    lines = [
        gpu_line("f.1", 2.5, "LocalTrain/train"),
        gpu_line("m.1", "1.5e+02", "LocalTrain/train", product),
        "  %copy.1 = u32[8]{0} copy(%a)",
        GPU_KERNEL.replace("KEY", key),
    ]
    found = estimate(program(*lines), "NVIDIA H200")
    words = 16 * 40 * 7 * 25 * 128
    (kernel,) = found["kernels"]
    assert kernel["kernel"] == "key_sums_chacha20_weighted"
    assert (kernel["grid"], kernel["keys_per_row"], kernel["words"]) == ([40, 25], 7, words)
    assert kernel["gwords_per_s"] == pytest.approx(338, rel=0.001)  # as measured
    assert found["seconds_by_module"]["LocalTrain"] == pytest.approx(152.5e-6)
    assert found["seconds_by_module"]["ParaShare"] == pytest.approx(words / 338e9, rel=0.001)
    assert found["steps"] == 3
    assert found["seconds_of_starts"] == pytest.approx(4 * 2.1e-6)  # with the copy
    assert found["operations_without_estimate"] == {"copy": 1}


@pytest.mark.parametrize(
    "given", ["((u32[16]), u32[16])", "u32[16]{0}", "(u32[8], u32[8])"], ids=["gpu", "one", "two"]
)
def test_only_the_results_of_an_all_reduce_are_sent(given):
    line = f"  %s.1 = {given} all-reduce-start(%a), to_apply=%plain"
    assert estimate(program(line), "NVIDIA H100")["collective_bytes"] == 64


def test_fewer_rounds_and_other_gpus():
    short = GPU_KERNEL.replace("KEY", "8").replace("chacha20", "chacha8")
    found = {kind: estimate(program(short), f"NVIDIA {kind}") for kind in ("H100", "H200", "B200")}
    rates = {kind: told["kernels"][0]["gwords_per_s"] for kind, told in found.items()}
    assert rates["H200"] == rates["H100"] == pytest.approx(668, rel=0.001)  # as measured
    assert rates["B200"] / rates["H200"] == pytest.approx(148 * 1.965 / (132 * 1.98))
    twice = GPU_KERNEL.replace("KEY", "8").replace("chacha20_weighted", "chacha20_weighted_twice")
    (kernel,) = estimate(program(twice), "NVIDIA H200")["kernels"]
    assert kernel["gwords_per_s"] == pytest.approx(293, rel=0.001)  # as measured


SIDES = f"""
%cheap (c: u32[8]) -> u32[8] {{
{fusion("f.1", 400, "ParaUpdate/cond")}
{fusion("f.2", 300, "ParaUpdate/cond")}
}}

%dear (d: u32[8]) -> u32[8] {{
{fusion("f.3", 701, "ParaUpdate/cond")}
}}

%with_kernel (k: u32[8]) -> u32[8] {{
{KERNEL}
}}
"""


@pytest.mark.parametrize(
    "how",
    [
        "branch_computations={%cheap, %dear}",
        "branch_computations={%dear, %cheap}",
        "true_computation=%cheap, false_computation=%dear",
    ],
)
def test_of_a_branch_the_dearer_side(how):
    line = f"  %cond = u32[8]{{0}} conditional(%p, %a, %a), {how}"
    found = estimate(program(line, others=SIDES), V5E)
    assert found["cycles"] == 701
    assert found["steps"] == 1


def test_a_kernel_counts_where_sides_are_compared():
    line = "  %cond = u32[8]{0} conditional(%p, %a, %a), branch_computations={%dear, %with_kernel}"
    found = estimate(program(line, others=SIDES), V5E, bundles)
    assert found["cycles"] == KERNEL_CYCLES > 701
    assert found["kernels"][0]["words"] == WORDS
    # And loses where it is cheap.
    found = estimate(program(line, others=SIDES), V5E, lambda kernel: Bundles(1, 1))
    assert (found["cycles"], found["kernels"]) == (701, [])


def test_a_call_and_what_an_asynchronous_one_calls():
    others = f"""
%called (c: u32[8]) -> u32[8] {{
{fusion("f.called", 13, "SelectGroup")}
}}

%later (l: u32[8]) -> u32[8] {{
{fusion("f.later", 17, "Init")}
}}
"""
    found = estimate(
        program(
            "  %call.1 = u32[8]{0} call(%a), to_apply=%called",
            "  %as.1 = ((u32[8]{0}), u32[8]{0}, u32[]) async-start(%a), calls=%later",
            "  %ad.1 = u32[8]{0} async-done(%as.1), calls=%later",
            others=others,
        ),
        V5E,
    )
    assert found["seconds_by_module"] == seconds({"SelectGroup": 13, "Init": 17})


def test_collectives_count_their_results_once():
    mesh = "replica_groups=mesh['group'=4] {'group'}"
    lines = {
        f"all-gather(%a), {mesh}, dimensions={{0}}": ("u32[32]{0:T(128)}", 128),
        f"all-gather-start(%a), {mesh}": ("(u32[8]{0:T(128)}, u32[32]{0:T(128)})", 128),
        f"all-gather-start(%a, %b), {mesh}": (
            "((u32[8]{0:T(128)}, bf16[2]{0}), (u32[32]{0:T(128)}, bf16[8]{0}))",
            128 + 16,
        ),
        f"all-reduce(%a, %b), {mesh}, to_apply=%plain": (
            "(f32[4]{0:T(128)}, s32[2,3]{1,0:T(8,128)S(1)}, /*index=2*/pred[5]{0})",
            16 + 24 + 5,
        ),
        f"all-reduce-start(%a, %b), {mesh}, to_apply=%plain": ("(f32[4]{0}, s32[3]{0})", 28),
        "collective-permute-start(%a), source_target_pairs={{0,1}}": (
            "(u32[8]{0}, u32[8]{0}, u32[]{:S(2)}, u32[]{:S(2)})",
            32,
        ),
        f"reduce-scatter(%a), {mesh}, to_apply=%plain": ("u32[2]{0}", 8),
    }
    for rest, (kind, size) in lines.items():
        found = estimate(program(f"  %c.1 = {kind} {rest}"), V5E)
        assert found["collective_bytes"] == size, rest
        assert found["collective_seconds"] == found["seconds"] == pytest.approx(size / LINKS)
        assert (found["steps"], found["operations_without_estimate"]) == (1, {})
    # Waiting for one that was started costs nothing more.
    done = "  %d.1 = u32[32]{0:T(128)} all-gather-done(%c.1)"
    assert estimate(program(done), V5E)["collective_bytes"] == 0


def test_collectives_in_loops_and_in_fusions():
    others = """
%reduced (r: u32[8]) -> u32[2] {
  %all-reduce.9 = u32[8]{0:T(128)} all-reduce(%r), to_apply=%plain
  ROOT %slice.9 = u32[2]{0:T(128)} dynamic-slice(%all-reduce.9, %n), dynamic_slice_sizes={2}
}
""" + NESTED.replace(fusion("f.inner", 10, "LocalTrain/while/body/train"), "").replace(
        fusion("f.outer", 100, "LocalTrain/while/body/encode"),
        fusion("f.reduce", 50, "ParaUpdate", inside="reduced"),
    )
    found = estimate(program(WHILE, others=others), V5E)
    assert found["collective_bytes"] == 3 * 32
    assert found["seconds_by_module"] == seconds({"ParaUpdate": 150})
    assert found["seconds"] == pytest.approx(150 / CLOCK + 96 / LINKS)


def test_what_has_no_figure_is_named_and_its_bytes_stand_beside():
    lines = [
        "  %s.1 = (bf16[6]{0}, pred[7]{0}) sort(%a, %b), dimensions={0}, to_apply=%plain",
        "  %cs.1 = (f32[10]{0:T(128)}, f32[10]{0:T(128)S(1)}, u32[]{:S(2)}) copy-start(%a)",
        "  %cd.1 = f32[10]{0:T(128)} copy-done(%cs.1)",
        "  %ss.1 = ((u8[90]{0}), u8[30]{0:T(128)(4,1)S(1)}, s32[]) slice-start(%a), slice={[0:9]}",
        "  %sd.1 = u8[30]{0} slice-done(%ss.1)",
        fusion("gather", 0, "LocalTrain/train"),
        '  %x.1 = u32[4]{0} custom-call(%a), custom_call_target="Strange"',
        '  %x.2 = u32[99]{0} custom-call(), custom_call_target="AllocateBuffer"',
        "  %g.1 = u32[8]{0} get-tuple-element(%t), index=0",
        "  %k.1 = u32[] constant(9)",
    ]
    found = estimate(program(*lines), V5E)
    names = ("sort", "copy-start", "slice-start", "fusion", "Strange")
    assert found["operations_without_estimate"] == dict.fromkeys(names, 1)
    size = (12 + 7) + 40 + 30 + 32 + 16
    assert found["seconds_without_estimate"] == pytest.approx(2 * size / MEMORY)
    assert found["seconds"] == found["steps"] == 0


def test_types_in_a_type():
    assert elements("u32[8]{0:T(8,128)}") == ["u32[8]{0:T(8,128)}"]
    assert elements("((u32[2,3]{1,0}, s8[1]), /*index=1*/f32[], ())") == [
        "(u32[2,3]{1,0}, s8[1])",
        "/*index=1*/f32[]",
        "()",
    ]


def test_scopes_of_fusions_without_a_path_of_their_own():
    path = 'metadata={op_name="jit(ssddl_round)/%s/add"}'
    others = f"""
%mixed (m: u32[8]) -> u32[8] {{
  %m = u32[8]{{0}} parameter(0)
  %m.1 = u32[8]{{0}} add(%m, %m), {path % "ParaShare/while/body/keys"}
  %m.2 = u32[8]{{0}} add(%m.1, %m), {path % "LocalTrain/train"}
  ROOT %m.3 = u32[8]{{0}} add(%m.2, %m), {path % "ParaShare/while/body/keys"}
}}

%nameless (n: u32[8]) -> u32[8] {{
  %n = u32[8]{{0}} parameter(0)
{fusion("f.nameless", 5, "")}
}}

%told (t: u32[8]) -> u32[8] {{
{fusion("f.told", 6, "")}
  %t.1 = u32[8]{{0}} add(%a, %a), {path % "ParaUpdate"}
}}
"""
    called = 'metadata={op_name="jit(ssddl_round)/SelectGroup/while"}'
    text = program(
        fusion("f.own", 1, "ParaUpdate", inside="mixed"),
        fusion("f.inside", 2, "", inside="mixed"),
        f"  %call.2 = u32[8]{{0}} call(%a), to_apply=%nameless, {called}",
        "  %call.3 = u32[8]{0} call(%a), to_apply=%told",
        others=others,
    )
    scopes = scopes_of(text)
    assert scopes["f.own"] == "ParaUpdate"
    assert scopes["f.inside"] == "ParaShare/keys"  # two of three inside
    assert scopes["f.nameless"] == "SelectGroup"  # of what calls it
    assert scopes["f.told"] == "ParaUpdate"  # of what stands beside it
    assert scopes["m.2"] == "LocalTrain/train"
    assert scopes["call.2"] is None
    assert scopes_of(program(fusion("f.lost", 3, "")))["f.lost"] == OTHER
    assert estimate(text, V5E)["seconds_by_module"] == seconds(
        {"ParaUpdate": 1 + 6, "ParaShare": 2, "SelectGroup": 5}
    )


def test_the_entry_and_the_computations_of_a_real_program():
    def step(x):
        with jax.named_scope("LocalTrain"), jax.named_scope("train"):
            return jnp.sin(x) @ x

    text = jax.jit(step).lower(jnp.ones((4, 4))).compile().as_text()
    assert entry(text) in computations(text)
    assert "LocalTrain/train" in scopes_of(text).values()
    found = estimate(text, V5E)  # another compiler's: nothing has an estimate
    assert found["seconds"] == 0
    assert found["operations_without_estimate"]
    with pytest.raises(ValueError, match="not a compiled program"):
        entry("nothing")


SCHEDULE = """= control target key start
LH: loop header
LB: loop body
= control target key end

     0   :  { %s9_s0 = inlined_call_operand.hbm [shape: u32[2,4,8], index: 0] /* input
base_bounds: (2, 1, 1)
element_size_in_bytes: 2048 */ }
   0x1   :  { %4976 = sst [smem:[#allocation56_spill]] %s4965_s1 }
   0xc LB: > { %4977 = sst [smem:[#allocation11_spill]] %s2951_s2  ;;  %s2 = smov 0 /* > */ }
   0xd   : > { %s35_s24 = sadd.s32 1, %s2947_s21 }
  0x40 LB: >> { %4986 = vst [vmem:[#allocation1]] %v1 }
  0x41   : >> { %v12 = vadd.s32 %v1, %v2  ;;  %v13 = vshll.u32 %v2, 7 }
  0xa2 PF: >> { %p1 = scmp.ge.s32.totalorder %s1, 4 } /* Start region 5 */
  0xa3   : > {}
  0xa4 PB: > { %9 = vsyncpa [#allocation5], 0 }
  0xa5   :  { %10 = vsyncpa [#allocation5], 1 }
"""


def test_bundles_of_a_schedule():
    assert bundles_in(SCHEDULE) == Bundles(inner=3, outer=4)
    assert Bundles(3, 4).cycles(Kernel("chacha20", "weighted", 5, 7, 2, 16)) == 5 * 2 * (4 + 7 * 3)


@pytest.mark.parametrize("text", ["", SCHEDULE.replace(">>", ">"), SCHEDULE.replace(">>", ">>>")])
def test_a_schedule_with_other_loops_is_refused(text):
    with pytest.raises(ValueError, match="depths"):
        bundles_in(text)


@pytest.fixture
def compiler(monkeypatch):
    """Stands in for the process that compiles a kernel: what it dumps and how it ends."""
    told = SimpleNamespace(code=0, said="", files={}, calls=Counter())

    def run(command, env, **_):
        told.calls[command[-1]] += 1
        place = env["LIBTPU_INIT_ARGS"].partition("--xla_jf_dump_to=")[2].partition(" ")[0]
        for name, text in told.files.items():
            with open(f"{place}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
        return SimpleNamespace(returncode=told.code, stderr=told.said, stdout="")

    monkeypatch.setattr(kernel_bundles.subprocess, "run", run)
    kernel_bundles._count_bundles.cache_clear()
    yield told
    kernel_bundles._count_bundles.cache_clear()


def kernel_of(**fields):
    """A small one."""
    kinds = {"prg": "chacha20", "terms": "weighted", "rows": 2, "keys": 4, "groups": 1, "side": 16}
    return Kernel(**{**kinds, **fields})


def test_bundles_are_counted_once_for_each_kind_of_kernel(compiler):
    stem = "17-key_sums_chacha20_weighted.1"
    compiler.files = {
        f"{stem}-100-final_bundles.txt": SCHEDULE,
        f"{stem}-99-schedule-analysis_final_bundles.txt": "Schedule analysis:",
        "17-reshape.1-66-final_bundles.txt": "",
    }
    assert count_bundles(kernel_of()) == Bundles(3, 4)
    assert count_bundles(kernel_of(rows=9, keys=5, groups=3)) == Bundles(3, 4)
    assert count_bundles(kernel_of(side=8)) == Bundles(3, 4)
    assert compiler.calls == {
        '["chacha20", "weighted", 16]': 1,
        '["chacha20", "weighted", 8]': 1,
    }


@pytest.mark.parametrize(
    ("code", "said", "files", "match"),
    [
        (1, "Traceback\n  ...\nRuntimeError: no libtpu here\n", {}, "no libtpu here$"),
        (-9, "", {}, "exit status -9"),
        (0, "", {}, "dumped no schedule of kernel key_sums_chacha20_weighted"),
        (0, "", {"1-key_sums_chacha20_weighted.1-7-final_bundles.txt": "nothing"}, "loop depths"),
    ],
)
def test_what_cannot_be_counted_is_told_in_one_line(compiler, code, said, files, match):
    compiler.code, compiler.said, compiler.files = code, said, files
    with pytest.raises(sd.RunError, match=match) as told:
        count_bundles(kernel_of())
    assert "\n" not in str(told.value)

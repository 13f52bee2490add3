"""report.html is complete, self-contained, true to the run directory, and reproducible."""

import json
import re
import shlex
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.cli.options import Parser, add_config_flags, read_config
from ssddl_jax.data.loading import load_data
from ssddl_jax.planning.plan import traffic
from ssddl_jax.report.html import text
from ssddl_jax.report.page import SECTIONS, read_run, write_report
from ssddl_jax.report.privacy import colluders
from ssddl_jax.report.sections import messages_of, peers_bytes
from ssddl_jax.report.sharing import Graph, partners, share_counts, sharing_graph
from ssddl_jax.running.directory import write_config
from ssddl_jax.simulation.build import build_simulation

D = 10  # parameters of the runs made by hand


def row_of(config, index, group, **changes):
    """A line of metrics of a run that went well."""
    plain = config.protocol == "plain"
    row = {
        "round": index,
        "group": group,
        "alive": len(group),
        "attempt": 0,
        "void": False,
        "exact": None if plain else True,
        "loss": 1 / (index + 1),
        "test_accuracy": 1 - 0.9 / (index + 2),
        "clipped": 3 * index,
        "nonfinite": 0,
        "seconds": 0.25,
        "bytes_up": 4 * (D if plain else D + 1) * len(group),
        "bytes_down": 4 * D * len(group),
        "aggregate_sha256": "ab" * 32,
        "uploads_sha256": None if plain else "cd" * 32,
    }
    return row | changes


def write_run(directory, rows=lambda index: {}, summary=(), about=None, **fields):
    """A run directory written by hand; `rows(index)` changes that round's line; `about`: more of
    its environment.
    """
    config = sd.Config(**{"participants": 30, "group_size": 8, "rounds": 4, **fields})
    directory.mkdir(exist_ok=True)
    write_config(config, directory / "config.toml", about)
    n, rng = config.group, np.random.default_rng(5)
    with (directory / "metrics.jsonl").open("w") as file:
        for index in range(config.rounds):
            group = rng.permutation(config.participants)[:n].tolist()
            file.write(json.dumps(row_of(config, index, group, **rows(index))) + "\n")
    k = config.neighbours if isinstance(config.neighbours, int) else n - 1
    told = {
        "test_accuracy": 0.875,
        "rounds": config.rounds,
        "participants": config.participants,
        "group_size": n,
        "parameters": D,
        "model": config.model,
        "neighbours": min(k, n - 1),
        "rounds_exact": None if config.protocol == "plain" else config.rounds,
        "rounds_void": 0,
        "run_sha256": "0123456789abcdef" * 4,
        "tile_size": 4,
        "notes": [],
    }
    (directory / "summary.json").write_text(json.dumps(told | dict(summary)))
    return directory


class Page(HTMLParser):
    """What a browser would find in the page."""

    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.loads, self.ids, self.headings = html, [], [], [], []
        self._in_heading, self.words = False, []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "xlink:href", "action"):
                self.loads.append((tag, value))
            if name == "id":
                self.ids.append(value)
            assert not name.startswith("on"), f"{tag} has a script in {name}"
        self._in_heading = tag == "h2"

    def handle_data(self, data):
        self.words.append(data)
        if self._in_heading:
            self.headings.append(data)
            self._in_heading = False

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page_of(directory):
    """The page of a run directory, checked for what holds of every page."""
    page = Page(write_report(directory).read_text())
    assert page.headings == [title for _, title, _ in SECTIONS]
    assert not set(page.tags) & {"script", "img", "iframe", "object", "embed", "use", "image"}
    for tag, target in page.loads:
        inside = target.startswith("#") and target[1:] in page.ids
        doi = tag == "a" and target == "https://doi.org/10.1016/j.ins.2020.03.074"
        assert inside or doi or (tag == "link" and target == "data:,"), (tag, target)
    assert "url(" not in page.html
    assert "@import" not in page.html
    assert page.html.count("http") == 2, "the doi and the http-equiv alone"
    assert len(page.ids) == len(set(page.ids))
    pictures = page.html.count("<svg")
    assert pictures >= 5
    assert page.html.count("<desc>") == pictures
    assert "nan" not in re.findall(r'(?:points|d|cx|cy|x|y)="([^"]*)"', page.html)
    assert "$" not in page.html
    assert "simulation" in page.text
    return page


def test_the_page_tells_of_the_run(tmp_path):
    page = page_of(write_run(tmp_path / "run"))
    for told in ("0.875", "4 of 4", "0123456789abcdef" * 4, "ssddl verify", "@article", "chacha20"):
        assert told in page.text
    assert "Last 0.82 (round 3)" in page.text
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "config.toml",
        "metrics.jsonl",
        "report.html",
        "summary.json",
    ]


def test_the_same_files_make_the_same_page(tmp_path, monkeypatch):
    gone = lambda index: {"alive": 6, "attempt": 1}  # noqa: E731
    first = write_report(write_run(tmp_path / "run", gone, dropout=0.3)).read_bytes()
    monkeypatch.chdir(tmp_path)
    assert write_report(Path("run")).read_bytes() == first


def test_hostile_words_are_escaped(tmp_path):
    bad = "<script>alert(1)</script>\"'&${line}"
    directory = write_run(
        tmp_path / "run",
        summary={"notes": [bad], "model": bad, "test_accuracy": bad, "tile_size": bad},
        data=bad,
        local_optimizer=bad,
        out=bad,
        engine="ideal",
    )
    config = (directory / "config.toml").read_text()
    (directory / "config.toml").write_text(re.sub("device = .*", f"device = '''{bad}'''", config))
    html = write_report(directory).read_text()
    assert "<script" not in html
    page = Page(html)
    assert page.headings == [title for _, title, _ in SECTIONS]
    assert page.text.count(bad) >= 6


def test_void_rounds_and_missing_values(tmp_path):
    def rows(index):
        if index % 2:
            return {"void": True, "exact": False, "alive": 2, "loss": None, "test_accuracy": None}
        return {"loss": float("nan") if index == 2 else 1.5}

    page = page_of(write_run(tmp_path / "run", rows, summary={"rounds_void": 2}))
    assert "2 void rounds" in page.text
    assert "2 of 4 rounds have no value" in page.text
    assert "Who shared with whom in round 2" in page.text, "the last that is not void"


@pytest.mark.parametrize("protocol", ["ssddl", "plain"])
def test_what_was_left_out_is_counted(tmp_path, protocol):
    counts = {"rounds_void": 11, "rounds_retried": 12, "nonfinite": 1300, "clipped": 1400}
    told = {**counts, "notes": ["1,300 updates were left out"]}
    page = page_of(write_run(tmp_path / "run", summary=told, protocol=protocol))
    for what in (
        "void rounds 11",
        "rounds shared again 12",
        "updates left out (not finite) 1,300",
        "clipped coordinates 1,400",
        "Note: 1,300 updates were left out.",
    ):
        assert what in page.text


def test_no_value_at_all(tmp_path):
    void = {"void": True, "alive": 0, "loss": None, "test_accuracy": None}
    page = page_of_least(write_run(tmp_path / "run", lambda index: void), 3)
    assert page.text.count("No round has a value.") == 2
    assert "every round was void" in page.text


def page_of_least(directory, pictures):
    html = write_report(directory).read_text()
    assert html.count("<svg") >= pictures
    return Page(html)


def test_who_vanished_is_not_guessed(tmp_path):
    for name, changes in (("schedule", {"alive": 7}), ("nan", {"alive": 7, "nonfinite": 1})):
        page = page_of(write_run(tmp_path / name, lambda index, c=changes: c))
        assert "does not say which members vanished" in page.text
    both = write_run(tmp_path / "both", lambda index: {"alive": 6, "nonfinite": 1}, dropout=0.3)
    assert "does not say which members vanished" in page_of(both).text


def test_plain(tmp_path):
    page = page_of(write_run(tmp_path / "run", protocol="plain"))
    assert "Every update in the clear" in page.text
    assert "no SSDDL pair shares" in page.text
    assert "no sums to check" in page.text
    assert 'class="verdict yes"' not in page.html


def test_ideal(tmp_path):
    page = page_of(write_run(tmp_path / "run", engine="ideal"))
    assert "made no pair shares" in page.text
    assert "drawn from their joint distribution" in page.text
    assert 'class="member' not in page.html


@pytest.mark.parametrize("rule", ["retry", "reveal", "shamir"])
def test_late_uploads_by_rule(tmp_path, rule):
    page = page_of(write_run(tmp_path / "run", dropout_rule=rule, threshold=3))
    said = {"retry": "differ by exactly", "reveal": "opened pads", "shamir": "Nothing more"}
    assert [kind for kind, words in said.items() if words in page.text] == [rule]
    assert ("The server and 3 or more members" in page.text) == (rule == "shamir")
    assert ("any t give the others" in page.text) == (rule == "shamir")
    assert ("uniform words, except for their sum" in page.text) == (rule != "shamir")
    assert ("opens that round's sum" in page.text) == (rule == "shamir")


def test_a_sparse_graph_claims_no_more_colluders_than_it_carries(tmp_path):
    directory = write_run(
        tmp_path / "run",
        participants=400,
        group_size=200,
        neighbours=20,
        summary={"max_colluders": 20},
    )
    assert colluders(read_run(directory)) == 18  # graph_search's bound for k = 20
    page = page_of(directory)
    assert "up to 18 members" in page.text
    assert 'class="heat"' in page.html
    assert "4,000 shares" in page.text


def test_complete_graph_withstands_all_but_two(tmp_path):
    page = page_of(write_run(tmp_path / "run"))
    assert "The server and up to 6 members" in page.text
    assert "members' examples" not in page.text


def test_fewer_where_fewer_may_be_left(tmp_path):
    """Four of eight may vanish: two of four are honest."""
    page = page_of(write_run(tmp_path / "run", max_dropout=0.5))
    assert "The server and up to 2 members" in page.text
    assert "Every opened sum holds at least 4" in page.text
    assert "The server and more than 2 members" in page.text


def test_the_chance_of_a_sparse_graph_is_of_the_run(tmp_path):
    sizes = {"participants": 400, "group_size": 200, "neighbours": 20}
    for protocol, words in (("ssddl", ", up to 2 attempts each"), ("secagg+", "")):
        more = {"threshold": 15, "protocol": protocol} if protocol == "secagg+" else {}
        page = page_of(write_run(tmp_path / protocol, **sizes, **more))
        assert re.search(
            rf"at most 2\^-\d\d\.\d for the run of \d+ rounds{words} \(union bound\)",
            page.text,
        )


def test_weights_are_in_the_sum(tmp_path):
    page = page_of(write_run(tmp_path / "run", weighting="examples"))
    assert "The sum also counts the members' examples." in page.text


def test_one_round_and_many(tmp_path):
    page_of(write_run(tmp_path / "one", rounds=1))

    def rows(index):
        return {"loss": None} if index % 7 == 3 else {"void": index % 100 == 50}

    directory = write_run(tmp_path / "many", rows, rounds=5000, group_size=30)
    page = page_of(directory)
    assert "mean over neighbouring rounds" in page.text
    assert (directory / "report.html").stat().st_size < 400_000


def test_large_group(tmp_path):
    directory = write_run(
        tmp_path / "run", participants=50_000, group_size=10_000, neighbours=60, dropout=0.0
    )
    page_of(directory)
    assert (directory / "report.html").stat().st_size < 400_000
    heat = read_run(directory).heat
    in_all = heat.sum() * (50_000 / heat.shape[0]) * (4 / heat.shape[1])
    assert in_all == pytest.approx(4 * 10_000 * (4 * 11 + 4 * 10))


@pytest.mark.parametrize("paired", [False, True], ids=["directed", "paired"])
@pytest.mark.parametrize("neighbours", [2, 6, 16, 100])
def test_counted_shares_are_the_listed_ones(neighbours, paired):
    group = np.random.default_rng(1).permutation(60)[:19].tolist()
    members = [slot for slot in range(19) if slot not in (3, 11)]
    graph = Graph(4, 1, group, members, {3, 11}, neighbours)
    listed = np.zeros((7, 7), int)
    for slot, row in enumerate(partners(9, graph)):
        for other in row:
            dealer, holder = group[slot], group[other]
            if not paired or dealer < holder:
                listed[dealer * 7 // 60, holder * 7 // 60] += 1
    np.testing.assert_array_equal(share_counts(9, graph, 60, 7, paired), listed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_file):
    """A real run whose members vanish and share again on a ring."""
    folder = tmp_path_factory.mktemp("report") / "run"
    config = sd.Config(
        data=str(tiny_file),
        model="linear",
        participants=16,
        group_size=12,
        neighbours=4,
        shares="paired",
        transport="explicit",
        dropout=0.2,
        max_dropout=0.4,
        rounds=3,
        tile_size=2,
        devices=1,
        seed=2**40 + 5,
        out=str(folder),
    )
    return config, sd.run(config)


def test_the_graph_is_the_transcripts(trained):
    config, result = trained
    run = read_run(result.directory)
    graph = sharing_graph(run, run.drawn)
    seen = sd.transcript(replace(config, engine="reference"), graph.round)
    assert graph.attempt == int(seen["attempt"]) == 1
    assert graph.group == seen["group"].tolist()
    assert graph.vanished == set(np.flatnonzero(~seen["alive"]).tolist())
    found = [sorted(graph.group[s] for s in row) for row in partners(config.seed, graph)]
    assert found == [sorted(int(i) for i in row if i >= 0) for row in seen["neighbours"]]
    page = page_of(result.directory)
    assert page.html.count('class="member gone"') == 2
    assert "2 members vanished after sharing" in page.text


def test_bytes_by_role_are_the_plans(trained):
    config, result = trained
    run = read_run(result.directory)
    plan = build_simulation(config, None, load_data(config)).plan
    for row in run.rows:
        moved = traffic(config, plan, members=12, alive=row.alive, attempt=row.attempt)
        uploads = 4 * plan.width * row.alive * (row.attempt + 1)
        assert (row.up, row.down) == moved[:2]
        assert peers_bytes(run, row) == moved.up - uploads
        assert messages_of(config, row) == 6  # model, shares, upload; left, shares, upload
    assert "the dealer of a share sends it" in page_of(result.directory).text


def command_of(page):
    """The words of the page's `ssddl run`, as a shell would read them."""
    shown = re.search(r"<code>ssddl run(.*?)\nssddl verify", page.html, re.DOTALL).group(1)
    return shlex.split(unescape(shown).replace("\\\n", " "))


def test_the_command_of_the_default_run(tmp_path):
    directory = write_run(tmp_path / "run", participants=100, group_size=25, rounds=40, seed=7)
    assert command_of(page_of(directory)) == ["--seed", "7"]
    hostile = write_run(tmp_path / "hostile", data="--x (y); 'z'", out="a b")
    assert command_of(page_of(hostile))[0] == "--data=--x (y); 'z'"


def test_the_command_makes_the_same_config(trained):
    config, result = trained
    words = command_of(page_of(result.directory))
    parser = Parser(prog="ssddl run")
    add_config_flags(parser)
    again = read_config(parser.parse_args(words), out=config.out)
    threads = read_run(result.directory).environment["threads"]
    assert again == replace(config, threads=threads), "part of the recipe"


def test_parts_from_python_are_said_and_not_in_the_command(tmp_path):
    given = {"given": ["data", "local", "model"], "threads": 3}
    directory = write_run(
        tmp_path / "run",
        summary={"model": "Mine"},
        about=given,
        data="mnist",
        local_optimizer="adam",
        seed=7,
    )
    page = page_of(directory)
    assert "participants train Mine on data given from Python through" in page.text
    assert "so the command lacks them: data, local, model (Mine)." in page.text
    words = command_of(page)
    assert words[-4:] == ["--threads", "3", "--seed", "7"]
    assert not {"--data", "--model", "--local-optimizer"} & set(words)
    plain = page_of(write_run(tmp_path / "named", about={"threads": 3}, data="mnist", threads=2))
    assert command_of(plain)[-2:] == ["--threads", "2"]
    assert "from Python" not in plain.text
    assert "train mlp on mnist through" in plain.text


@pytest.mark.parametrize("size", [8, 50])
def test_shares_of_polynomials_go_both_ways(tmp_path, size):
    """`shares paired` is of pads: every member sends every other a value of its polynomial."""
    fields = {"shares": "paired", "participants": 60, "group_size": size}
    pads = page_of(write_run(tmp_path / "pads", **fields)).text
    both = page_of(write_run(tmp_path / "values", dropout_rule="shamir", **fields)).text
    if size == 8:
        assert "(one share)" in pads
        assert "(two shares, one each way)" in both
    else:
        assert f"{size * (size - 1) // 2:,} shares go from its dealers" in pads
        assert f"{size * (size - 1):,} shares go from its dealers" in both
        assert "Paired shares go" not in both


def test_command_line(tmp_path, capsys):
    directory = write_run(tmp_path / "run")
    assert main(["report", str(directory)]) == 0
    assert capsys.readouterr().out.strip() == str(directory / "report.html")
    assert main(["report", str(directory), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == Path(told["report"]).stat().st_size


def spoil(directory, name, content):
    path = directory / name
    path.unlink() if content is None else path.write_text(content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", None),
        ("metrics.jsonl", None),
        ("config.toml", None),
        ("summary.json", "{"),
        ("summary.json", "[]"),
        ("summary.json", '{"rounds": 4}'),
        ("metrics.jsonl", ""),
        ("metrics.jsonl", "1\n"),
        ("metrics.jsonl", '{"round": 0, "group": []}\n'),
        ("config.toml", "rounds = 0"),
    ],
)
def test_what_is_no_finished_run_is_refused(tmp_path, capsys, name, content):
    directory = write_run(tmp_path / "run")
    (directory / "report.html").write_text("an older one")
    spoil(directory, name, content)
    before = sorted(directory.iterdir())
    assert main(["report", str(directory)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "Traceback" not in told
    assert sorted(directory.iterdir()) == before
    assert (directory / "report.html").read_text() == "an older one"


def test_numbers_for_people():
    assert text(None) == "&ndash;"
    assert text(1234567) == "1,234,567"
    assert text(1.5e-8) == "1.5e-08"
    assert text(float("nan")) == "nan"
    assert text("<&>") == "&lt;&amp;&gt;"

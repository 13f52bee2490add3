"""The faults that `mutants.py` plants, each with the cheapest tests that must kill it.

A fault is (text in the source, text in its place); the text occurs once in all of `src/`. Where a
mutant has several, the first that is found is planted: they are one fault before and after a change
of the source. `harmless`, if a mutant must live, argues that nothing anybody sees can differ.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """A fault, and the tests below `tests/` that must fail with it."""

    name: str
    area: str  # sharing, training, rivals, planning, files, privacy
    faults: tuple[tuple[str, str], ...]
    killers: tuple[str, ...]
    harmless: str = ""


def _mutant(name: str, area: str, before: str, after: str, *killers: str) -> Mutant:
    return Mutant(name, area, ((before, after),), killers)


_ROUND = "test_rounds.py::test_round_equals_the_oracle"
_IDEAL = f"{_ROUND}[ideal-complete-32-retry-uniform-directed]"
_SPARSE = f"{_ROUND}[pairwise-4-32-retry-examples-paired]"
_REVEAL = (
    "test_sharing.py::test_layer_equals_the_oracle"
    "[pairwise-reveal-complete-paired-64-6-chacha8-rolled]"
)
_SHAMIR = f"{_ROUND}[pairwise-complete-32-shamir-examples-directed]"
_VOID = "test_rounds.py::test_void_rounds_leave_parameters_and_optimizer_state"
_STACKED = "test_stacked.py::test_uploads_equal_the_oracle"
_WIDE = "test_stacked.py::test_the_layer_from_end_to_end[3-64]"
_SUMS64 = "test_chacha.py::test_sums_of_shares_equal_python_integers[70-64]"
_WEIGHTS = "test_encoding.py::test_weight_words"
_BATCHES = "test_rival_training.py::test_passing_weights_on_is_sgd_over_everybodys_batches"
_SELECTIVE = "test_rival_rounds.py::test_selective_sharing_equals_its_oracle"
_MISTAKE = "test_cli.py::test_mistake_is_one_line_and_status_two"
_EDGE = "test_certificate.py::test_the_edge_is_exact_for_all_coalitions[ring-5]"
_NUMBERS = "test_numbers.py"
_SHARP = "test_certificate.py::test_shamir_threshold_is_sharp"
_SEEN = "test_views.py::test_what_is_seen_of_a_round_with_dropouts"

SHARING = (
    # Words
    Mutant(
        "chacha-rotates-by-twelve-twice",
        "sharing",
        (
            ("d = _rotate(d ^ a, 8)", "d = _rotate(d ^ a, 12)"),
            ("in ((16, 12), (8, 7)):", "in ((16, 12), (12, 7)):"),
        ),
        ("test_chacha.py::test_rfc_8439_block",),
    ),
    Mutant(
        "counter-behind-the-nonce",
        "sharing",
        (
            ("jnp.concatenate([counter, nonce])", "jnp.concatenate([nonce, counter])"),
            ("[first, key, counter, nonce]", "[first, key, nonce, counter]"),
        ),
        ("test_chacha.py::test_random_blocks_equal_openssl",),
    ),
    _mutant(
        "words-block-by-block",
        "sharing",
        "return blocks(key[None], counters, nonce[None]).reshape(-1)[:count]",
        "return blocks(key[None], counters, nonce[None]).T.reshape(-1)[:count]",
        "test_chacha.py::test_words_are_lane_major[100]",
    ),
    _mutant(
        "tag-big-endian",
        "sharing",
        'int.from_bytes(text.encode("ascii"), "little")',
        'int.from_bytes(text.encode("ascii"), "big")',
        "test_chacha.py::test_tag_is_little_endian",
    ),
    _mutant(
        "share-counter-off-by-one",
        "sharing",
        "counter = lax.broadcasted_iota(jnp.uint32, shape, factor.ndim) + first",
        "counter = lax.broadcasted_iota(jnp.uint32, shape, factor.ndim) + first + jnp.uint32(1)",
        "test_chacha.py::test_written_words[chacha8]",
    ),
    # Keys
    _mutant(
        "pair-key-without-its-attempt",
        "sharing",
        'return _keys(chain, attempt, dealers, holders, tag("PAIR"))',
        'return _keys(chain, jnp.uint32(0), dealers, holders, tag("PAIR"))',
        "test_stacked.py::test_attempts_never_reuse_a_pad",
    ),
    _mutant(
        "dealer-and-holder-swapped-in-the-nonce",
        "sharing",
        "nonce = jnp.stack([first, second, jnp.full_like(first, purpose)], axis=-1)",
        "nonce = jnp.stack([second, first, jnp.full_like(first, purpose)], axis=-1)",
        _STACKED,
    ),
    _mutant(
        "ideal-keys-with-the-tag-of-pairs",
        "sharing",
        'jnp.zeros_like(ids), tag("IDEA"))',
        'jnp.zeros_like(ids), tag("PAIR"))',
        _IDEAL,
    ),
    _mutant(
        "chain-stands-still",
        "sharing",
        'return first8(chain, jnp.uint32(0), _nonce(0, 0, tag("NEXT")))',
        "return chain",
        _IDEAL,
    ),
    _mutant(
        "chain-steps-with-the-tag-of-its-start",
        "sharing",
        'return first8(chain, jnp.uint32(0), _nonce(0, 0, tag("NEXT")))',
        'return first8(chain, jnp.uint32(0), _nonce(0, 0, tag("INIT")))',
        _IDEAL,
    ),
    Mutant(
        "high-half-of-the-seed-lost",
        "sharing",
        (
            (
                "return jnp.array([seed & 0xFFFFFFFF, seed >> 32, 0, 0, 0, 0, 0, 0], jnp.uint32)",
                "return jnp.array([seed & 0xFFFFFFFF, 0, 0, 0, 0, 0, 0, 0], jnp.uint32)",
            ),
            (
                "return np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)",
                "return np.array([seed & 0xFFFFFFFF, 0], np.uint32)",
            ),
        ),
        (_IDEAL,),
    ),
    _mutant(
        "agreed-key-depends-on-who-asks",
        "sharing",
        "low, high = jnp.minimum(first, second), jnp.maximum(first, second)",
        "low, high = jnp.broadcast_arrays(first, second)",
        "test_secagg.py::test_agreed_keys_are_the_same_from_both_ends",
    ),
    # Public randomness
    _mutant(
        "group-from-the-end-of-the-order",
        "sharing",
        "return shuffled(public, round_, everybody)[:size]",
        "return shuffled(public, round_, everybody)[-size:]",
        _IDEAL,
    ),
    _mutant(
        "rotation-shuffles-every-round",
        "sharing",
        "order = shuffled(public, round_ // per_pass, everybody)",
        "order = shuffled(public, round_, everybody)",
        "test_rounds.py::test_groups_are_the_oracles[rotate]",
        "test_plan.py::test_bytes_follow_the_schedule_whatever_the_group[retry-5-rotate]",
    ),
    _mutant(
        "others-vanish-than-the-words-say",
        "sharing",
        ".at[order[:vanishing]].set(True)",
        ".at[order[-vanishing:]].set(True)",
        _IDEAL,
    ),
    _mutant(
        "rounding-noise-of-half-the-range",
        "sharing",
        "return (drawn >> jnp.uint32(8)).astype(jnp.float32) * jnp.float32(2**-24)",
        "return (drawn >> jnp.uint32(9)).astype(jnp.float32) * jnp.float32(2**-24)",
        "test_encoding.py::test_stochastic_rounding_is_unbiased",
    ),
    # Rings and the field
    _mutant(
        "carry-lost-in-the-wide-sum-of-two",
        "sharing",
        "return _join(low, a1 + b1 + (low < a0).astype(jnp.uint32))",
        "return _join(low, a1 + b1)",
        _WIDE,
    ),
    _mutant(
        "wide-negation-by-complement",
        "sharing",
        "return _join(-low, ~high + (low == 0).astype(jnp.uint32))",
        "return _join(~low, ~high)",
        _WIDE,
    ),
    _mutant(
        "carry-of-the-lower-halves-lost",
        "sharing",
        "carry = (high_l + (low_l >> half)) >> half",
        "carry = high_l >> half",
        _SUMS64,
        "test_independent_uploads.py::test_rare_carries_of_the_wide_ring",
    ),
    _mutant(
        "rare-carry-of-the-masks-lost",
        "sharing",
        "carry = piece + (carry >> bits)",
        "carry = piece",
        "test_independent_uploads.py::test_rare_carries_of_the_wide_ring",
    ),
    _mutant(
        "high-product-without-its-carry",
        "sharing",
        "return a1 * b1 + (middle >> half) + carry",
        "return a1 * b1 + (middle >> half)",
        "test_field.py::test_all_pairs_of_edge_values[multiply]",
    ),
    _mutant(
        "the-prime-is-no-zero",
        "sharing",
        "return jnp.where(x >= jnp.uint32(P), x - jnp.uint32(P), x)",
        "return jnp.where(x > jnp.uint32(P), x - jnp.uint32(P), x)",
        "test_field.py::test_reduce_takes_any_word",
    ),
    _mutant(
        "largest-positive-element-is-negative",
        "sharing",
        "return jnp.where(elements > jnp.uint32(P // 2),",
        "return jnp.where(elements >= jnp.uint32(P // 2),",
        "test_field.py::test_signs_round_trip",
    ),
    _mutant(
        "lagrange-differences-the-wrong-way-round",
        "sharing",
        "difference = field.subtract(jnp.full_like(points, x), points)",
        "difference = field.subtract(points, jnp.full_like(points, x))",
        "test_field.py::test_lagrange_against_galois",
    ),
    _mutant(
        "horner-at-the-next-abscissa",
        "sharing",
        "points = everybody.astype(jnp.uint32) + jnp.uint32(1)",
        "points = everybody.astype(jnp.uint32) + jnp.uint32(2)",
        "test_distinguisher.py::test_one_dealers_shares_are_shamirs",
    ),
    _mutant(
        "polynomials-of-a-degree-too-few",
        "sharing",
        "degrees = jnp.arange(threshold - 1, 0, -1, dtype=jnp.uint32)",
        "degrees = jnp.arange(threshold - 2, 0, -1, dtype=jnp.uint32)",
        _SHAMIR,
    ),
    _mutant(
        "rejection-becomes-a-remainder",
        "sharing",
        "return lax.cond(jnp.any(counted[0] > 0), stand_ins, lambda: total)",
        "return total",
        "test_field.py::test_rejected_words_are_replaced",
    ),
    # Encoding
    _mutant(
        "weight-word-is-one",
        "sharing",
        "last = jnp.stack([weights, *[jnp.zeros_like(weights)]",
        "last = jnp.stack([jnp.ones_like(weights), *[jnp.zeros_like(weights)]",
        "test_encoding.py::test_nearest_equals_the_oracle[7-32]",
    ),
    _mutant(
        "values-without-their-weight",
        "sharing",
        "words.append(ring.encode(rounded.astype(jnp.int32), weight))",
        "words.append(ring.encode(rounded.astype(jnp.int32), jnp.ones_like(weight)))",
        "test_encoding.py::test_nearest_equals_the_oracle[7-32]",
    ),
    _mutant(
        "stochastic-rounding-to-the-nearest",
        "sharing",
        "rounded = below + (drawn < scaled - below).astype(jnp.float32)",
        "rounded = jnp.rint(scaled)",
        "test_encoding.py::test_stochastic_equals_the_oracle",
    ),
    _mutant(
        "a-coordinate-at-the-clip-counts-as-clipped",
        "sharing",
        "jnp.abs(piece) > clip]",
        "jnp.abs(piece) >= clip]",
        "test_encoding.py::test_nearest_equals_the_oracle[1-32]",
    ),
    _mutant(
        "infinities-enter-the-ring",
        "sharing",
        "tests = [~jnp.isfinite(piece),",
        "tests = [jnp.isnan(piece),",
        "test_encoding.py::test_nothing_non_finite_is_encoded",
    ),
    _mutant(
        "mean-by-the-reciprocal",
        "sharing",
        "lambda: values[:-1] * scale / divisor,",
        "lambda: values[:-1] * scale * (jnp.float32(1) / divisor),",
        "test_encoding.py::test_decoding_is_rounded_like_numpy_whatever_follows",
    ),
    _mutant(
        "largest-weight-is-impossible",
        "sharing",
        "((high == top) & (low <= bottom))",
        "((high == top) & (low < bottom))",
        _WEIGHTS,
    ),
    _mutant(
        "high-limb-of-the-weight-ignored",
        "sharing",
        "return (low == count) & (high == 0)",
        "return low == count",
        _WEIGHTS,
    ),
    _mutant(
        "headroom-off-by-one",
        "sharing",
        "return bound <= _INT32_MAX and terms * bound <= capacity",
        "return bound <= _INT32_MAX and terms * bound <= capacity + 1",
        "test_encoding.py::test_auto_takes_the_largest_that_fits",
    ),
    # Masks and graphs
    _mutant(
        "shares-with-the-other-sign",
        "sharing",
        "sign = jnp.where(row_deals, jnp.uint32(1), jnp.uint32(0xFFFFFFFF))",
        "sign = jnp.where(row_deals, jnp.uint32(0xFFFFFFFF), jnp.uint32(1))",
        _STACKED,
    ),
    Mutant(
        "dealers-add-their-shares",
        "sharing",
        (
            ("_add_at(mask, rows_at, zero, -dealt)", "_add_at(mask, rows_at, zero, dealt)"),
            ("_add_at(mask, rows_at, -dealt)", "_add_at(mask, rows_at, dealt)"),
        ),
        (_STACKED,),
    ),
    _mutant(
        "pairs-deal-by-slot-not-by-id",
        "sharing",
        "row_deals = row_id < column_id",
        "row_deals = jnp.broadcast_to(row_slot < column_slot, shape)",
        _STACKED,
    ),
    _mutant(
        "digest-factor-2s",
        "sharing",
        "factors = jnp.uint32(2) * slots.astype(jnp.uint32) + jnp.uint32(1)",
        "factors = jnp.uint32(2) * slots.astype(jnp.uint32)",
        _IDEAL,
    ),
    _mutant(
        "ring-distance-off-by-one",
        "sharing",
        "return inside & (distance >= 1) & (distance <= neighbours // 2)",
        "return inside & (distance >= 1) & (distance < neighbours // 2)",
        "test_graphs.py::test_partners_are_the_oracles_and_listed_once[4]",
        _SPARSE,
    ),
    _mutant(
        "opposite-members-share-twice",
        "sharing",
        "once = (reach < count) | ((reach == count) & forward)",
        "once = reach <= count",
        "test_graphs.py::test_partners_are_the_oracles_and_listed_once[4]",
        _SPARSE,
    ),
    _mutant(
        "a-graph-in-pieces-counts-as-whole",
        "sharing",
        "return gaps <= 1",
        "return gaps <= 2",
        "test_rounds.py::test_every_dropout_pattern_of_a_small_group[6-reveal-2-more3]",
    ),
    _mutant(
        "ideal-draws-the-last-upload-too",
        "sharing",
        "& (slots < scheme.size) & (slots != last)",
        "& (slots < scheme.size)",
        _IDEAL,
    ),
    _mutant(
        "opened-pads-with-one-sign",
        "sharing",
        "pads = scheme.ring.add(plus, scheme.ring.negate(minus))",
        "pads = scheme.ring.add(plus, minus)",
        _REVEAL,
    ),
    _mutant(
        "paired-pads-of-the-other-end",
        "sharing",
        "held, dealt = valid & lower, valid & ~lower",
        "held, dealt = valid & ~lower, valid & lower",
        _REVEAL,
    ),
    # SecAgg
    _mutant(
        "self-masks-added-once-more",
        "sharing",
        "less = scheme.ring.add(summed, scheme.ring.negate(own))",
        "less = scheme.ring.add(summed, own)",
        "test_secagg_secrets.py::test_one_wrong_share_spoils_the_aggregate[self-mask]",
    ),
    _mutant(
        "self-mask-of-the-vanished-opened",
        "sharing",
        "stays = attempt.alive",
        "stays = attempt.members",
        "test_secagg_secrets.py::test_recovered_secrets_are_the_dealt_ones",
    ),
    _mutant(
        "both-secrets-on-one-polynomial",
        "sharing",
        "purpose = jnp.where(attempt.alive, jnp.uint32(SELF_MASK), jnp.uint32(MASK_KEY))",
        "purpose = jnp.full(attempt.alive.shape, SELF_MASK, jnp.uint32)",
        "test_secagg_secrets.py::test_never_both_secrets_of_one_participant",
    ),
    _mutant(
        "a-share-too-few-suffices",
        "sharing",
        "few = attempt.members & (count < jnp.uint32(t))",
        "few = attempt.members & (count < jnp.uint32(t - 1))",
        "test_secagg_shares.py::test_every_set_of_survivors[Case(n=6, t=2, k=2, bits=32, "
        "prg='chacha20', rule='secagg', devices=1)]",
    ),
    # Devices
    _mutant(
        "self-masks-digest-of-one-device",
        "sharing",
        "return join_devices(ring, carry[0], AXIS), lax.psum(carry[1], AXIS)",
        "return join_devices(ring, carry[0], AXIS), carry[1]",
        "test_sharing.py::test_sums_of_many_keys_do_not_depend_on_devices[self_masks]",
    ),
    _mutant(
        "ideal-digest-of-one-device",
        "sharing",
        "                lax.psum(carry[1], AXIS),\n",
        "                carry[1],\n",
        "test_sharing.py::test_sums_of_many_keys_do_not_depend_on_devices[ideal_uploads]",
    ),
    _mutant(
        "opened-pads-of-one-device",
        "sharing",
        "return join_devices(scheme.ring, total, AXIS)",
        "return total",
        "test_sharing.py::test_sums_of_many_keys_do_not_depend_on_devices[opened_pads]",
    ),
    _mutant(
        "updates-digest-of-one-device",
        "sharing",
        "for piece in total), lax.psum(digest, AXIS)",
        "for piece in total), digest",
        "test_program.py::test_results_do_not_depend_on_devices[pairwise-2]",
    ),
    _mutant(
        "stochastic-rounding-moves-whole-numbers",
        "sharing",
        "(drawn < scaled - below)",
        "(drawn <= scaled - below)",
        f"{_NUMBERS}::test_stochastic_rounding_leaves_whole_numbers",
    ),
    _mutant(
        "headroom-rounds-the-clip-down",
        "sharing",
        "return math.ceil(clip * 2**fraction_bits)",
        "return math.floor(clip * 2**fraction_bits)",
        f"{_NUMBERS}::test_headroom_rounds_the_clip_up",
    ),
)

TRAINING = (
    _mutant(
        "batch-mask-ignored",
        "training",
        "return jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1)",
        "return jnp.mean(losses)",
        _BATCHES,
    ),
    _mutant(
        "every-epoch-in-one-order",
        "training",
        "index = jnp.arange(epochs, dtype=jnp.uint32)[:, None] * count + position",
        "index = jnp.zeros((epochs, 1), jnp.uint32) * count + position",
        _BATCHES,
    ),
    _mutant(
        "updates-with-the-other-sign",
        "training",
        "return jax.tree.map(jnp.subtract, after, params), loss",
        "return jax.tree.map(jnp.subtract, params, after), loss",
        _BATCHES,
    ),
    _mutant(
        "pixels-over-256",
        "training",
        "return images.astype(jnp.float32) / jnp.float32(255)",
        "return images.astype(jnp.float32) / jnp.float32(256)",
        _BATCHES,
    ),
    _mutant(
        "server-steps-backwards",
        "training",
        "recipe.server.update(unravel(-mean), state.server, state.params)",
        "recipe.server.update(unravel(mean), state.server, state.params)",
        _IDEAL,
    ),
    _mutant(
        "a-void-round-moves-the-optimizer",
        "training",
        "lax.cond(void, lambda: (state.params, state.server), apply)",
        "lax.cond(void, lambda: (state.params, apply()[1]), apply)",
        _VOID,
    ),
    _mutant(
        "a-void-round-keeps-the-chain",
        "training",
        "    chain = randomness.next_chain(state.chain)\n"
        "    return State(params, server, chain, state.public",
        "    chain = jnp.where(void, state.chain, randomness.next_chain(state.chain))\n"
        "    return State(params, server, chain, state.public",
        _VOID,
    ),
    _mutant(
        "a-vanished-member-is-counted",
        "training",
        "alive = present & ~group.vanished[inside]",
        "alive = present",
        _IDEAL,
    ),
    _mutant(
        "padding-slots-are-counted",
        "training",
        "present = finite & (slots < scheme.size)",
        "present = finite",
        _IDEAL,
    ),
    _mutant(
        "who-never-shared-makes-a-retry",
        "training",
        "lost = outcomes.finite & group.vanished",
        "lost = group.vanished",
        "test_rounds.py::test_a_member_that_is_not_finite_and_vanishes_makes_no_retry",
    ),
    _mutant(
        "plain-mean-without-weights",
        "training",
        "counted = jnp.where(tile.alive, tile.weights, jnp.uint32(0))",
        "counted = tile.alive.astype(jnp.uint32)",
        "test_cli.py::test_plain_and_ssddl_differ_by_the_quantisation_bound[examples]",
    ),
    _mutant(
        "accuracy-of-the-wrong-round",
        "training",
        "if (index + 1) % config.eval_every == 0 or index + 1 == config.rounds:",
        "if index % config.eval_every == 0 or index + 1 == config.rounds:",
        "test_cli.py::test_run_directory",
    ),
    _mutant(
        "rows-dealt-in-the-order-of-the-file",
        "training",
        "owners[_order(bits, rows)] = np.arange(rows) * participants // rows",
        "owners[:] = np.arange(rows) * participants // rows",
        "test_partition.py::test_iid_is_not_the_order_of_the_file",
    ),
    _mutant(
        "a-batch-without-examples-is-a-step",
        "training",
        "some = jnp.any(valid)",
        "some = jnp.bool_(True)",
        f"{_NUMBERS}::test_a_batch_without_examples_is_no_step",
    ),
    _mutant(
        "batches-alike-in-every-round",
        "training",
        "participant_words(public, round_, participant, epochs * most,",
        "participant_words(public, round_ * 0, participant, epochs * most,",
        _BATCHES,
    ),
    Mutant(
        "models-of-half-a-seed",
        "training",
        (
            (
                "jax.random.key(np.uint32(seed & 0xFFFFFFFF)), np.uint32(seed >> 32)",
                "jax.random.key(np.uint32(seed & 0xFFFFFFFF)), np.uint32(0)",
            ),
            (
                "jax.random.fold_in(model, words[1])",
                "jax.random.fold_in(model, jnp.uint32(0))",
            ),
        ),
        (f"{_NUMBERS}::test_both_halves_of_the_seed_start_a_model",),
    ),
    _mutant(
        "padding-images-are-judged",
        "training",
        "constant_values=-1)",
        "constant_values=0)",
        f"{_NUMBERS}::test_accuracy_counts_no_padding",
    ),
    _mutant(
        "test-images-on-another-scale",
        "training",
        "train, test = (x.astype(np.float32) / np.float32(by) for x in (train, test))",
        "train = train.astype(np.float32) / np.float32(by)",
        f"{_NUMBERS}::test_images_of_both_splits_are_brought_to_one_scale",
    ),
    _mutant(
        "loss-of-who-is-not-finite",
        "training",
        "np.asarray(info.loss, np.float64)[finite]",
        "np.asarray(info.loss, np.float64)",
        f"{_NUMBERS}::test_the_loss_is_the_finite_members",
    ),
)

RIVALS = (
    _mutant(
        "a-vanished-visit-passes-its-weights-on",
        "rivals",
        "passed_on = moved(weights, change, finite & each.arrives)",
        "passed_on = moved(weights, change, finite)",
        "test_rival_rounds.py::test_weights_pass_from_slot_to_slot",
    ),
    _mutant(
        "ties-choose-one-too-few",
        "rivals",
        "return above | (level & (place <= left))",
        "return above | (level & (place < left))",
        "test_selecting.py::test_edges[4]",
    ),
    _mutant(
        "a-late-visit-misses-one-more",
        "rivals",
        "seen = past[(each.turn - lag_of(state, each)) % _KEPT]",
        "seen = past[jnp.maximum(each.turn - lag_of(state, each) - 1, 0) % _KEPT]",
        f"{_SELECTIVE}[random above a threshold, late]",
    ),
    _mutant(
        "chosen-coordinates-unclipped",
        "rivals",
        "values = jnp.clip(change, -gamma, gamma)",
        "values = change",
        f"{_SELECTIVE}[largest of everybody, clipped]",
    ),
    _mutant(
        "uploads-of-the-vanished-are-counted",
        "rivals",
        "counts = carry.memory.counts + (upload.chosen & arrives).astype(jnp.uint32)",
        "counts = carry.memory.counts + upload.chosen.astype(jnp.uint32)",
        f"{_SELECTIVE}[round-robin, part of the download]",
    ),
    _mutant(
        "half-the-noise-on-comparisons",
        "rivals",
        "law(2 * count * steps, 4 * part),",
        "law(count * steps, 4 * part),",
        "test_laplace.py::test_picks_and_values_are_the_oracles",
    ),
    _mutant(
        "lwe-modulus-without-its-one",
        "rivals",
        "return digits.at[0].add(small).at[P_BITS // 8].add(small)",
        "return digits.at[P_BITS // 8].add(small)",
        "test_lwe.py::test_ciphertexts_are_the_oracles[1]",
    ),
    _mutant(
        "lwe-borrow-lost",
        "rivals",
        "borrow = (first[0] < second[0]).astype(jnp.uint32)",
        "borrow = jnp.zeros_like(first[0])",
        "test_lwe.py::test_ciphertexts_are_the_oracles[7]",
    ),
    _mutant(
        "lwe-takes-twice-as-many-additions",
        "rivals",
        "by_message = ((P - 1) // 2) // max(largest, 1)",
        "by_message = (P - 1) // max(largest, 1)",
        "test_lwe.py::test_headroom_of_the_published_parameters",
    ),
    _mutant(
        "paillier-takes-off-one-shift",
        "rivals",
        "shift = sealed.terms * _SHIFT",
        "shift = _SHIFT",
        "test_paillier.py::test_sums_are_exact[1]",
    ),
    _mutant(
        "paillier-pad-one-term-short",
        "rivals",
        "if terms > 1 << PAILLIER_PAD_BITS:",
        "if terms >= 1 << PAILLIER_PAD_BITS:",
        "test_paillier.py::test_as_many_additions_as_the_pad_holds",
    ),
    _mutant(
        "encrypted-updates-of-the-vanished-are-added",
        "rivals",
        "added = _WIDE.add(held, jnp.where(each.arrives, words, jnp.uint32(0)))",
        "added = _WIDE.add(held, words)",
        "test_rival_rounds.py::test_integers_under_encryption_equal_the_oracle",
    ),
    _mutant(
        "pooled-padding-among-the-rows",
        "rivals",
        "outside = jnp.broadcast_to((~valid).astype(jnp.uint32), drawn.shape)",
        "outside = jnp.zeros_like(drawn)",
        "test_rival_training.py::test_central_training_is_sgd_over_the_pooled_rows",
    ),
    _mutant(
        "those-alone-change-from-round-to-round",
        "rivals",
        "group = SelectGroup(recipe, state._replace(round=jnp.uint32(0)))",
        "group = SelectGroup(recipe, state)",
        "test_rival_training.py::test_alone_everybody_trains_as_in_a_run_of_its_own",
    ),
    _mutant(
        "a-fraction-by-floats",
        "rivals",
        "return max(1, floor(Fraction(repr(float(fraction))) * dimension))",
        "return max(1, floor(fraction * dimension))",
        "test_protocols.py::test_a_fraction_is_the_decimal_that_is_written",
    ),
    _mutant(
        "secagg-moves-one-key",
        "rivals",
        "shared_up=SECRET * (2 + 2 * others),",
        "shared_up=SECRET * (1 + 2 * others),",
        "test_secagg_bytes.py::test_expansion_is_the_source_s[1024-1048576-1.73]",
    ),
    _mutant(
        "a-packed-word-without-room-for-the-last-sum",
        "rivals",
        "return max(1, (members * (levels - 1)).bit_length())",
        "return max(1, (members * (levels - 1) - 1).bit_length())",
        "test_secagg_bytes.py::test_a_word_has_room_for_every_sum[2]",
    ),
)

PLANNING = (
    _mutant(
        "two-survivors-suffice",
        "planning",
        "return max(3, config.group - floor",
        "return max(2, config.group - floor",
        _VOID,
    ),
    _mutant(
        "a-retry-costs-no-bytes",
        "planning",
        "up = message * sent.alive * len(sent.sharers)",
        "up = message * sent.alive",
        "test_plan.py::test_bytes_by_hand",
    ),
    _mutant(
        "the-forecast-knows-no-retry",
        "planning",
        "return Outcome(lost, int(lost > 0 and rule.attempts > 1), 0, void)",
        "return Outcome(lost, 0, 0, void)",
        "test_plan.py::test_bytes_by_hand",
    ),
    _mutant(
        "the-forecast-counts-one-edge-too-few",
        "planning",
        "for distance in range(1, plan.neighbours // 2 + 1)",
        "for distance in range(1, plan.neighbours // 2)",
        "test_plan.py::test_bytes_are_those_that_a_run_counts[ssddl-reference-reveal-4-paired-"
        "explicit-3]",
    ),
    _mutant(
        "paired-shares-cost-both-words",
        "planning",
        "return pairs * ends // 2 if config.paired else pairs * ends",
        "return pairs * ends",
        "test_plan.py::test_share_words_are_section_8s_in_one_attempt",
    ),
    _mutant(
        "the-bound-may-be-reached",
        "planning",
        "return n * (n - k - 1) * perm(bad, k) << sigma < perm(n, k)",
        "return n * (n - k - 1) * perm(bad, k) << sigma <= perm(n, k)",
        "test_graph_search.py::test_ties_are_decided_in_integers",
    ),
    _mutant(
        "threshold-off-by-one",
        "planning",
        "return max(t1 + 1, 2), _greatest_below(n, n - dropped, k, eta)",
        "return max(t1, 2), _greatest_below(n, n - dropped, k, eta)",
        "test_graph_search.py::test_equals_brute_force_for_small_groups[5-3]",
    ),
    _mutant(
        "binary-fractions-of-a-group",
        "planning",
        "fraction = Fraction(Decimal(str(value)))",
        "fraction = Fraction(value)",
        "test_graph_search.py::test_fractions_are_exact_decimals",
    ),
    _mutant(
        "all-but-one-may-collude",
        "planning",
        "        return n - 2\n",
        "        return n - 1\n",
        "test_graph_search.py::test_max_colluders",
    ),
    _mutant(
        "as-many-as-the-threshold-may-collude",
        "planning",
        "most = min(least - 2, threshold - 1) if rule.needs_threshold",
        "most = min(least - 1, threshold) if rule.needs_threshold",
        "test_plan.py::test_tolerance_carries_the_numbers",
    ),
    _mutant(
        "one-attempt-for-the-whole-run",
        "planning",
        "tries = config.rounds * rule.attempts",
        "tries = 1",
        "test_colluders.py::test_the_chance_is_of_the_whole_run",
    ),
    _mutant(
        "a-ring-for-any-number-of-dropouts",
        "planning",
        "fewest if sparse else 0",
        "0",
        "test_colluders.py::test_more_than_max_dropout_vanish_from_a_ring",
    ),
    _mutant(
        "any-automatic-threshold",
        "planning",
        "threshold = min(fewest_survivors(config), neighbours)",
        "pass",
        "test_colluders.py::test_a_threshold_of_its_own_is_the_best",
    ),
    _mutant(
        "a-retry-sends-no-shares-again",
        "planning",
        "return 1 + attempt + 1 + attempt",
        "return 1 + attempt + 1 + 1",
        "test_counting.py::test_messages_that_wait_for_one_another",
    ),
    _mutant(
        "bits-for-bytes-on-the-network",
        "planning",
        "transfer = 8e-6 * (up / self.up_mbit + down / self.down_mbit)",
        "transfer = 1e-6 * (up / self.up_mbit + down / self.down_mbit)",
        "test_plan.py::test_network_seconds",
    ),
    _mutant(
        "a-group-a-little-above-the-memory",
        "planning",
        "return again(replace(config, group_size=size)) <= limit",
        "return again(replace(config, group_size=size)) <= 1.01 * limit",
        "test_plan.py::test_memory_that_is_not_here_is_refused_with_what_fits",
    ),
    _mutant(
        "what-no-machine-holds-is-tried",
        "planning",
        "if limit is not None and total > limit:",
        "if limit is None and total > 0:",
        "test_protocols.py::test_models_that_everybody_keeps_count_as_memory",
    ),
    _mutant(
        "both-ends-send-a-paired-share",
        "planning",
        "sum(shares // 2 if config.paired else shares for shares in dealt)",
        "sum(dealt)",
        f"{_NUMBERS}::test_a_pair_sends_one_paired_share",
    ),
    _mutant(
        "who-must-stay-by-floats",
        "planning",
        "floor(Fraction(repr(config.max_dropout)) * config.group)",
        "floor(config.max_dropout * config.group)",
        f"{_NUMBERS}::test_fractions_of_a_group_are_the_decimals_that_are_written",
    ),
    _mutant(
        "who-vanishes-by-floats",
        "planning",
        "floor(Decimal(repr(config.dropout)) * config.group)",
        "floor(config.dropout * config.group)",
        f"{_NUMBERS}::test_fractions_of_a_group_are_the_decimals_that_are_written",
    ),
)

FILES = (
    _mutant(
        "checkpoint-hash-unchecked",
        "files",
        'if _digest(leaves) != meta["state_sha256"]:',
        "if not leaves:",
        "test_checkpoints.py::test_half_a_checkpoint_of_another[older-state]",
    ),
    _mutant(
        "checkpoint-of-another-round",
        "files",
        'if meta.pop("sha256") != _meta_digest(meta) or meta["done"] != step:',
        'if meta.pop("sha256") != _meta_digest(meta):',
        "test_checkpoints.py::test_whole_checkpoints_swapped_renamed_or_foreign",
    ),
    _mutant(
        "checkpoint-of-another-recipe",
        "files",
        '_same_recipe(step, meta["recipe"], recipe)',
        "_same_recipe(step, recipe, recipe)",
        "test_checkpoints.py::test_half_a_checkpoint_of_another[foreign-meta]",
    ),
    _mutant(
        "metrics-before-a-checkpoint-unchecked",
        "files",
        'if hashlib.sha256(text).hexdigest() != meta["log_sha256"]:',
        "if not text:",
        "test_checkpoints.py::test_the_metrics_before_a_checkpoint_belong_to_it",
    ),
    _mutant(
        "the-good-checkpoint-set-aside",
        "files",
        "if step > done:",
        "if step >= done:",
        "test_checkpoints.py::test_setting_aside_twice_keeps_both",
    ),
    _mutant(
        "resumed-with-the-first-chain",
        "files",
        "chain = jax.jit(randomness.chain_at)(state.chain, done)",
        "chain = state.chain",
        "test_checkpoints.py::test_the_state_after_a_resume_is_that_of_an_undisturbed_run",
    ),
    _mutant(
        "a-folder-that-exists-is-overwritten",
        "files",
        'if not overwrite:\n            raise ConfigError("out"',
        'if overwrite:\n            raise ConfigError("out"',
        "test_outputs.py::test_what_is_refused",
    ),
    _mutant(
        "a-void-round-opens-its-keys",
        "planning",
        "attempt = opened = 0",
        "attempt = 0",
        "test_counting.py::test_bytes_are_those_of_the_messages_that_travel[reveal]",
    ),
    _mutant(
        "keys-spread-over-everybody",
        "planning",
        "return (self.up + self.down) * participants / (members * self.rounds)",
        "return (self.up + self.down) / self.rounds",
        "test_counting.py::test_keys_are_counted_the_same_way_for_everybody[ssddl]",
    ),
    _mutant(
        "a-digit-by-its-highest-limb",
        "rivals",
        "ones = lax.cond(jnp.any(high == a), to_the_last, lambda: high < a)",
        "ones = high < a",
        "test_laplace.py::test_a_digit_is_decided_by_all_its_limbs",
    ),
    _mutant(
        "noise-on-a-member-who-is-not-finite-stays-away",
        "rivals",
        "arrives = each.arrives & (finite | private)",
        "arrives = each.arrives & finite",
        "test_laplace.py::test_what_is_not_finite_is_sent_as_no_change",
    ),
    _mutant(
        "labels-are-truncated",
        "files",
        'if y.dtype.kind not in "iu":',
        'if y.dtype.kind not in "iuf":',
        "test_datasets.py::test_bad_arrays_of_ones_own[a float label]",
    ),
    _mutant(
        "floats-are-divided-by-255",
        "files",
        "return 255.0 if self.x_train.dtype == np.uint8 else 1.0",
        "return 255.0",
        "test_datasets.py::test_every_way_in_scales_alike",
    ),
    _mutant(
        "running-statistics-are-parameters",
        "training",
        'others = sorted(set(params) - {"params"})',
        'others = sorted(set(params) - {"params", "batch_stats"})',
        "test_parts.py::test_models_that_keep_more_than_parameters",
    ),
    _mutant(
        "whatever-a-directory-names-is-imported",
        "files",
        "    if trust:\n        return\n    for field",
        "    if trust or fields:\n        return\n    for field",
        "test_trust.py::test_code_that_a_directory_names_is_refused[model]",
    ),
    _mutant(
        "a-model-of-the-round-before",
        "files",
        "leaves = [named[name] for name in wanted]",
        "leaves = [named[name] * 0 for name in wanted]",
        "test_trained.py::test_it_predicts",
    ),
    _mutant(
        "a-folder-of-somebody-elses-is-ours",
        "files",
        'if "ssddl-jax" in about["environment"]["versions"]:',
        'if "environment" in about or about:',
        "test_outputs.py::test_what_is_refused",
    ),
    _mutant(
        "whatever-lies-in-checkpoints-is-ours",
        "files",
        "if known.fullmatch(path.relative_to(directory).as_posix()):",
        "if path.parent != directory or known.fullmatch(path.name):",
        "test_outputs.py::test_foreign_files_survive_every_change",
    ),
    _mutant(
        "any-folder-with-a-config-is-a-run",
        "files",
        "config = Config(**read_toml(path))\n    check_run(directory)",
        "config = Config(**read_toml(path))",
        "test_foreign_files.py::test_a_config_file_makes_no_run_directory",
    ),
    _mutant(
        "whatever-has-a-number-goes-in-its-turn",
        "files",
        '    check_contents("directory", directory)\n',
        "",
        "test_foreign_files.py::test_a_resume_removes_no_checkpoints_of_somebody_elses[1/model.bin]",
    ),
    _mutant(
        "results-replace-what-bears-their-name",
        "files",
        "if was != kind:",
        "if was == kind:",
        "test_foreign_files.py::test_what_is_theirs_in_a_run_of_ours_survives",
    ),
    _mutant(
        "nan-passes-the-gate",
        "files",
        "    if not allow_nonfinite:\n",
        "    if allow_nonfinite is None:\n",
        "test_datasets.py::test_what_is_not_finite_in_arrays_of_ones_own[images-nan]",
    ),
    _mutant(
        "who-is-not-selected-is-not-counted",
        "files",
        "sum(int((~np.isin(those, group)).sum())",
        "sum(int((np.isin(those, group)).sum())",
        "test_schedules.py::test_who_is_not_in_the_rounds_group_is_counted[random]",
    ),
    _mutant(
        "a-warm-up-that-never-begins",
        "training",
        '_COUNTING = (*_SCHEDULED, "MultiStepsState"',
        '_COUNTING = ("MultiStepsState"',
        "test_parts.py::test_whatever_waits_for_longer_than_a_round[schedule]",
    ),
    _mutant(
        "an-old-run-goes-before-the-new-one-has-begun",
        "files",
        "(directory / WAITING).mkdir()\n    return directory / WAITING",
        "free(directory)\n    return directory",
        "test_outputs.py::test_an_old_run_stays_until_the_first_round_of_the_new_one",
    ),
    _mutant(
        "a-change-that-was-cut-off-is-not-completed",
        "files",
        "    completed(directory)\n    path = directory",
        "    path = directory",
        "test_outputs.py::test_cut_off_anywhere_it_is_the_old_run_or_the_new_one",
    ),
    _mutant(
        "two-writers-of-one-run",
        "files",
        "fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        "test_staying_up.py::test_two_writers_of_one_run_are_refused",
    ),
    _mutant(
        "verify-passes-over-aggregates",
        "files",
        '_NOT_COMPARED = ("seconds",)',
        '_NOT_COMPARED = ("seconds", "aggregate_sha256")',
        "test_staying_up.py::test_verify_names_the_first_round_that_differs[fields0-round 2: "
        "aggregate_sha256]",
    ),
    _mutant(
        "verify-ends-well-in-any-case",
        "files",
        "return 0 if found.equal else 1",
        "return 0",
        "test_staying_up.py::test_verify_names_the_first_round_that_differs[fields0-round 2: "
        "aggregate_sha256]",
    ),
    _mutant(
        "a-mistake-ends-with-status-one",
        "files",
        '            say(f"error: {one_line(error, 1200)}")\n            return 2',
        '            say(f"error: {one_line(error, 1200)}")\n            return 1',
        f"{_MISTAKE}[no rounds]",
    ),
    _mutant(
        "a-group-of-two",
        "files",
        '"members n of a round\'s group, or all", 3)',
        '"members n of a round\'s group, or all", 2)',
        f"{_MISTAKE}[group of two]",
    ),
    _mutant(
        "seeds-of-65-bits",
        "files",
        '"0 <= seed < 2^64; replays everything", 0, 2**64 - 1)',
        '"0 <= seed < 2^64; replays everything", 0, 2**64)',
        "test_config.py::test_the_impossible_is_refused_by_name",
    ),
    Mutant(
        "clip-not-rounded-to-float32",
        "files",
        (
            ("clip = float(np.float32(config.clip))", "clip = float(config.clip)"),
            ("clip = _float32(config.clip)", "clip = float(config.clip)"),
        ),
        ("test_config.py::test_clip_is_rounded_to_float32",),
    ),
    _mutant(
        "the-file-wins-over-the-flags",
        "files",
        "fields.update({name: from_text(text, hints[name]) for name, text in given.items()})",
        "fields = {**{n: from_text(text, hints[n]) for n, text in given.items()}, **fields}",
        "test_cli.py::test_flags_win_over_the_file",
    ),
    _mutant(
        "pickles-are-opened",
        "files",
        "np.load(path, allow_pickle=False)",
        "np.load(path, allow_pickle=True)",
        "test_datasets.py::test_pickles_are_refused",
    ),
    _mutant(
        "longer-files-than-their-header-says",
        "files",
        "if len(raw) != body + math.prod(shape):",
        "if len(raw) < body + math.prod(shape):",
        "test_datasets.py::test_damaged_idx[x_train-False]",
    ),
    _mutant(
        "groups-in-the-csv",
        "files",
        'for key, value in row.items() if key != "group"}',
        "for key, value in row.items()}",
        "test_sinks.py::test_csv_has_the_rows_of_jsonl",
    ),
    _mutant(
        "run-hash-in-another-order",
        "files",
        "for digest in aggregate_digests)",
        "for digest in sorted(aggregate_digests))",
        f"{_NUMBERS}::test_hashes_are_of_little_endian_words_and_of_rounds_in_order",
    ),
    _mutant(
        "words-hashed-big-endian",
        "files",
        'newbyteorder("<")',
        'newbyteorder(">")',
        f"{_NUMBERS}::test_hashes_are_of_little_endian_words_and_of_rounds_in_order",
        "test_independent_uploads.py::test_streamed_run_has_the_digest_of_the_transcripts_uploads"
        "[ring-retried-paired]",
    ),
)

PRIVACY = (
    _mutant(
        "certificate-over-a-field-where-it-is-a-ring",
        "privacy",
        "return P if header.rule.field else 1 << header.ring_bits",
        "return P",
        "test_views.py::test_known_sums_are_sums_of_updates[ring]",
    ),
    _mutant(
        "certificate-over-a-ring-where-it-is-a-field",
        "privacy",
        "return P if header.rule.field else 1 << header.ring_bits",
        "return 1 << header.ring_bits",
        _SHARP,
    ),
    _mutant(
        "even-numbers-are-divided-by",
        "privacy",
        "units = entries if modulus % 2 else entries[rows[at, entries] % np.uint64(2) == 1]",
        "units = entries",
        "test_certificate.py::test_what_cannot_be_divided_is_refused",
    ),
    _mutant(
        "both-ends-of-a-pair-with-one-sign",
        "privacy",
        "= 1 if sender == max(i, j) else -1",
        "= 1",
        _EDGE,
    ),
    _mutant(
        "a-holder-at-the-wrong-point",
        "privacy",
        "point = header.slot(holder) + 1",
        "point = header.slot(holder)",
        _SHARP,
    ),
    _mutant(
        "sums-of-two-determine",
        "privacy",
        "single = [row for row in known if np.count_nonzero(row) == 1]",
        "single = [row for row in known if 1 <= np.count_nonzero(row) <= 2]",
        _EDGE,
    ),
    _mutant(
        "half-the-opened-shares-unseen",
        "privacy",
        "if (i in gone and j in here) or (i in here and j in gone)",
        "if i in here and j in gone",
        _SEEN,
    ),
    _mutant(
        "received-shares-unseen",
        "privacy",
        "if i in coalition or j in coalition",
        "if i in coalition",
        "test_views.py::test_what_each_adversary_sees",
    ),
    _mutant(
        "uploads-of-a-first-attempt-unseen",
        "privacy",
        'attempts = [last] if header.engine == "ideal" else range(last + 1)',
        "attempts = [last]",
        _SEEN,
    ),
    _mutant(
        "a-void-round-shows-its-sum",
        "privacy",
        "if (adversary.server or adversary.coalition) and not header.void:",
        "if adversary.server or adversary.coalition:",
        _SEEN,
    ),
    _mutant(
        "uploads-of-a-round-of-too-few",
        "privacy",
        "bool(header.vanished and len(header.sharers) >= header.least_summed)",
        "bool(header.vanished)",
        "test_colluders.py::test_complete_graphs_by_the_certificate[retry-5]",
    ),
    _mutant(
        "shares-of-secrets-open-nothing",
        "privacy",
        "if len(held) >= header.threshold\n",
        "if len(held) > 10**6\n",
        "test_secagg_certificate.py::test_of_one_member_both_secrets_are_needed",
    ),
    _mutant(
        "one-share-more-is-needed",
        "privacy",
        "if len(held) >= header.threshold\n",
        "if len(held) > header.threshold\n",
        "test_secagg_certificate.py::test_on_a_ring_colluders_open_their_common_neighbours",
    ),
    _mutant(
        "uploads-of-a-void-round-kept",
        "privacy",
        "sent = jnp.where(void, jnp.uint32(0), sent)",
        "sent = jnp.where(void, sent, sent)",
        "test_secagg.py::test_whole_rounds_void_below_the_threshold",
    ),
    _mutant(
        "sum-of-a-void-round-kept",
        "privacy",
        "aggregate=jnp.where(void, jnp.uint32(0), uploads.aggregate),",
        "aggregate=uploads.aggregate,",
        "test_rounds.py::test_void_rounds_leave_parameters_and_optimizer_state",
    ),
    _mutant(
        "digest-of-a-void-round-kept",
        "privacy",
        "digest=jnp.where(void, jnp.uint32(0), uploads.digest),",
        "digest=uploads.digest,",
        "test_rounds.py::test_void_rounds_leave_parameters_and_optimizer_state",
    ),
    _mutant(
        "shares-of-a-view-with-the-other-sign",
        "privacy",
        "sent = self._ring.add(sent, words if j == sender else self._ring.negate(words))",
        "sent = self._ring.add(sent, words if i == sender else self._ring.negate(words))",
        "test_views.py::test_words_are_those_that_were_sent[retry]",
    ),
    _mutant(
        "ties-count-as-wins",
        "privacy",
        "= rankdata(values)",
        '= rankdata(values, method="max")',
        "test_distinguisher.py::test_auc_by_hand",
    ),
    _mutant(
        "many-tests-as-one",
        "privacy",
        "return float(-np.expm1(p_values.size * np.log1p(-smallest)))",
        "return smallest",
        "test_uniformity.py::test_least_of_many",
    ),
    _mutant(
        "label-of-the-largest-entry",
        "privacy",
        "return jnp.argmin(bias_gradient, axis=1).astype(jnp.int32)",
        "return jnp.argmax(bias_gradient, axis=1).astype(jnp.int32)",
        "test_attacks.py::test_labels_are_certain_at_batch_one[mlp]",
    ),
    _mutant(
        "a-mean-pixel-within-the-tolerance",
        "privacy",
        "jnp.any(jnp.max(jnp.abs(candidates - truth[None]), axis=1) <= tolerance)",
        "jnp.any(jnp.mean(jnp.abs(candidates - truth[None]), axis=1) <= tolerance)",
        "test_attacks.py::test_recovered_wants_every_pixel_within_the_tolerance",
    ),
)

# Faults that version one had.
FOUND = (
    _mutant(
        "padding-is-somebodys-row",
        "training",
        "return jnp.where(real, x, jnp.zeros_like(x)), jnp",
        "return x, jnp",
        "test_padding.py::test_one_row_changes_its_owners_update_alone[4-linear]",
    ),
    _mutant(
        "a-wrong-sum-is-applied",
        "training",
        "ParaUpdate(recipe, state, mean, void | ~right)",
        "ParaUpdate(recipe, state, mean, void)",
        "test_sums.py::test_a_wrong_sum_ends_the_run_and_is_not_applied",
    ),
    _mutant(
        "halves-of-any-number-of-rows",
        "sharing",
        "full = rows.shape[0] // MOST",
        "full = 0",
        "test_sums.py::test_of_so_many_largest_rows[131073-64]",
    ),
    _mutant(
        "a-sum-of-two-sharers-stands",
        "sharing",
        "stands = enough & (sharers >= max(3, threshold))",
        "stands = enough",
        "test_colluders.py::test_a_sum_of_two_sharers_never_stands",
    ),
    _mutant(
        "a-dropped-signal-stays-dropped",
        "files",
        "threading.Timer(_AGAIN, again).start()",
        "pass",
        "test_interrupts.py::test_where_python_drops_exceptions",
    ),
    _mutant(
        "a-pool-of-whatever-size",
        "files",
        "os.environ[_POOL] = str(threads)",
        "pass",
        "test_cores.py::test_what_is_made",
    ),
)

_LONG = "test_accelerated.py::test_layer_equals_the_oracle"

ACCELERATED = (
    _mutant(
        "a-holder-deals-what-it-holds",
        "sharing",
        "sign = jnp.where(deals, jnp.uint32(0) - exists, exists)",
        "sign = jnp.where(deals, exists, jnp.uint32(0) - exists)",
        f"{_LONG}[pairwise-reveal-complete-paired-64-6-chacha8]",
    ),
    _mutant(
        "who-is-not-there-shares-too",
        "sharing",
        "exists = valid.astype(jnp.uint32)",
        "exists = jnp.ones_like(valid, jnp.uint32)",
        f"{_LONG}[pairwise-reveal-complete-paired-64-6-chacha8]",
    ),
    _mutant(
        "the-padding-of-a-batch-shares-too",
        "sharing",
        "sign = jnp.where((slots < size)[:, None], sign, jnp.uint32(0))",
        "pass",
        "test_accelerated.py::test_many_devices_and_small_batches"
        "[pairwise-retry-4-directed-32-20-chacha8]",
    ),
    _mutant(
        "blocks-of-a-gpu-program-overlap",
        "sharing",
        "(group.astype(jnp.uint32) * jnp.uint32(THREADS) + first_ref[0])",
        "(group.astype(jnp.uint32) * jnp.uint32(THREADS - 1) + first_ref[0])",
        "test_accelerated.py::test_kernels_sum_what_the_plain_form_does[weighted_twice-gpu]",
    ),
    _mutant(
        "later-keys-of-a-tpu-program-replace-the-first",
        "sharing",
        "lanes if steps == 1 else out_ref[0, term, lane] + lanes",
        "lanes",
        "test_accelerated.py::test_kernels_sum_what_the_plain_form_does[weighted_twice-tpu]",
    ),
    _mutant(
        "a-rejected-word-stays-in-the-long-schedule",
        "sharing",
        "jnp.any(rejected > 0),",
        "jnp.any(rejected > 99),",
        "test_accelerated.py::test_rejected_words_give_way_in_the_long_schedule_too",
    ),
    _mutant(
        "products-of-whatever-precision",
        "training",
        "with jax.default_matmul_precision(precision):",
        "with jax.default_matmul_precision(None):",
        "test_accelerated.py::test_products_have_the_precision_of_the_config[float32-HIGHEST]",
    ),
    _mutant(
        "a-tile-of-any-width",
        "training",
        "most = min(most, 1 << (fitting.bit_length() - 1))",
        "pass",
        "test_accelerated.py::test_a_tile_is_a_number_of_the_platform_the_model_and_the_group",
    ),
    _mutant(
        "a-trace-in-a-folder-that-holds-something",
        "files",
        "if target.exists() and (not target.is_dir() or any(target.iterdir())):",
        "if False:",
        "test_profiling.py::test_a_folder_that_holds_something_is_refused",
    ),
)

MUTANTS = (*SHARING, *TRAINING, *RIVALS, *PLANNING, *FILES, *PRIVACY, *FOUND, *ACCELERATED)

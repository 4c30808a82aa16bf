"""Batches by token budget: every row once an epoch, and one sequence that a resumed training finds again."""

from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from evertune.serving.portable.batching import TokenBatches, by_length, cut_batches, pack_batches

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300)
BUDGETS = st.integers(16, 200)
SEEDS = st.integers(0, 2**32 - 1)


def rows(batches: list[list[int]]) -> list[int]:
    return sorted(row for batch in batches for row in batch)


def keeps_budget(batches: list[list[int]], lengths: list[int], budget: int) -> bool:
    """Padding counted; a row beyond the budget is alone."""
    return all(len(one) == 1 or len(one) * max(lengths[row] for row in one) <= budget for one in batches)


@given(LENGTHS, BUDGETS, SEEDS, st.booleans())
@settings(deadline=None)
def test_every_row_stands_in_an_epoch_once_and_within_the_budget(
    lengths: list[int], budget: int, seed: int, padded: bool
) -> None:
    batches = TokenBatches(lengths, budget, 3, seed, padded=padded)
    for number in range(3):
        epoch = batches.epoch_batches(number)
        assert rows(epoch) == list(range(len(lengths)))
        assert all(len(one) == 1 or sum(lengths[row] for row in one) <= budget for one in epoch)
        assert not padded or keeps_budget(epoch, lengths, budget)


def test_batches_are_random_draws_of_all_lengths() -> None:
    """Rows of one length in each batch cost a point of accuracy on banking77."""
    lengths = [5] * 300 + [10] * 150 + [50] * 30
    batches = [[lengths[row] for row in batch] for batch in TokenBatches(lengths, 450, 1, 17)]
    shares = [batch.count(5) / len(batch) for batch in batches[:-1]]
    assert max(shares) < 0.9 and min(shares) > 0.35
    assert max(map(len, batches)) < 3 * min(map(len, batches[:-1])), "and of about as many rows"


def test_a_model_that_computes_padding_is_given_rows_of_about_one_length() -> None:
    lengths = [number % 50 + 1 for number in range(2000)]
    batches = list(TokenBatches(lengths, 500, 1, 17, padded=True))
    padding = sum(len(one) * max(lengths[row] for row in one) for one in batches) / sum(lengths) - 1
    assert padding < 0.05


@given(LENGTHS, BUDGETS)
@settings(deadline=None)
def test_batches_by_length_hold_every_row_and_begin_with_the_longest(lengths: list[int], budget: int) -> None:
    batches = by_length(lengths, budget)
    assert rows(batches) == list(range(len(lengths)))
    assert keeps_budget(batches, lengths, budget)
    assert lengths[batches[0][0]] == max(lengths)


def test_a_batch_is_filled_up_and_a_row_beyond_the_budget_is_alone() -> None:
    assert pack_batches([0, 1, 2, 3, 4, 5], [2, 4, 4, 50, 3, 3], 12) == [[0, 1, 2], [3], [4, 5]]
    assert cut_batches([0, 1, 2, 3, 4, 5], [2, 4, 6, 50, 3, 3], 12) == [[0, 1, 2], [3], [4, 5]]


@given(LENGTHS, BUDGETS, SEEDS, st.integers(1, 4))
@settings(deadline=None)
def test_the_sequence_is_that_of_its_seed_and_its_length_is_told(
    lengths: list[int], budget: int, seed: int, epochs: int
) -> None:
    first = TokenBatches(lengths, budget, epochs, seed)
    again = TokenBatches(lengths, budget, epochs, seed)
    whole = list(first)
    assert whole == list(again) == list(first)
    assert len(first) == len(whole) == sum(first.per_epoch)
    assert rows(whole) == sorted(list(range(len(lengths))) * epochs)


def test_other_seeds_and_other_epochs_have_other_orders() -> None:
    lengths = [number % 17 + 1 for number in range(200)]
    one = TokenBatches(lengths, 64, 2, 17)
    other = TokenBatches(lengths, 64, 2, 18)
    assert one.epoch_batches(0) != other.epoch_batches(0)
    assert one.epoch_batches(0) != one.epoch_batches(1)


def test_an_epoch_is_not_sorted_by_length() -> None:
    lengths = list(range(1, 61)) * 20
    batches = TokenBatches(lengths, 120, 1, 17, padded=True).epoch_batches(0)
    longest = [max(lengths[row] for row in batch) for batch in batches]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_epochs_may_differ_in_their_number_of_batches() -> None:
    lengths = [number * 7919 % 60 + 1 for number in range(400)]
    batches = TokenBatches(lengths, 61, 12, 17)
    assert len(set(batches.per_epoch)) > 1  # rows, budget and seed were chosen so
    start = 0
    for number, count in enumerate(batches.per_epoch):
        assert rows(list(batches)[start : start + count]) == list(range(400)), number
        start += count


@given(LENGTHS, BUDGETS, SEEDS, st.floats(0.05, 3.5))
@settings(deadline=None)
def test_a_fraction_of_an_epoch_is_its_first_batches(lengths: list[int], budget: int, seed: int, epochs: float) -> None:
    batches = TokenBatches(lengths, budget, epochs, seed)
    whole = int(epochs)
    last = batches.epoch_batches(int(epochs))
    expected = [batch for number in range(whole) for batch in batches.epoch_batches(number)]
    if epochs > whole:
        expected += last[: max(1, round((epochs - whole) * len(last)))]
    assert list(batches) == expected


@given(LENGTHS, BUDGETS, SEEDS, st.integers(0, 50))
@settings(deadline=None)
def test_skipping_what_was_done_gives_the_rest(lengths: list[int], budget: int, seed: int, done: int) -> None:
    from accelerate.data_loader import SkipBatchSampler

    batches = TokenBatches(lengths, budget, 2, seed)
    done = min(done, len(batches))
    assert list(SkipBatchSampler(batches, skip_batches=done)) == list(islice(batches, done, None))


def test_a_training_that_ended_early_has_no_batch_left() -> None:
    batches = TokenBatches([5] * 40, 20, 2, 17)
    whole = list(batches)
    batches.stop_after(7)
    assert len(batches) == 7 and list(batches) == whole[:7]
    batches.stop_after(1000)
    assert len(batches) == 20 and list(batches) == whole

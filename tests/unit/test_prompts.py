"""Reading prompts, and the checks that keep a set from making a result meaningless."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering_reliability.errors import SteeringError
from steering_reliability.prompts import (
    Prompt,
    check_prompts,
    fold,
    load_prompts,
    near_duplicates,
    prompts_hash,
    similarity,
)

ROOT = Path(__file__).resolve().parents[2]

# Anything that UTF-8 can hold.
texts = st.text(st.characters(codec="utf-8"), min_size=1)
WORDS = ["the", "how", "bomb", "cake", "bake", "build", "safe", "door"]
WriteJsonl = Callable[..., Path]


@pytest.fixture
def write_jsonl(tmp_path: Path) -> WriteJsonl:
    def write(*rows: Any, name: str = "harm_test.jsonl") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def dataset_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The datasets library without network, bars, or traces in the user's cache."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets.disable_progress_bars()


def error_of(source: str | Path, **arguments: Any) -> str:
    """The message of the error that reading raises, without the source's folder."""
    with pytest.raises(SteeringError) as caught:
        load_prompts(source, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{Path(source).parent}/", "")


def prompts_of(*texts: str, split: str = "harm_test") -> list[Prompt]:
    return [Prompt(f"{split}-{i}", text, split) for i, text in enumerate(texts, start=1)]


# --- JSONL -----------------------------------------------------------------------------------


def test_a_jsonl_file_is_read_in_order_with_its_fields(write_jsonl: WriteJsonl) -> None:
    path = write_jsonl(
        {"id": "b", "prompt": "First?", "category": "fraud", "style": "direct"},
        "",
        {"id": 7, "prompt": " Second? ", "category": None},
        {"prompt": "Third?", "more": [1]},
    )
    assert load_prompts(path) == [
        Prompt("b", "First?", "harm_test", "fraud", "direct"),
        Prompt("7", " Second? ", "harm_test"),
        Prompt("harm_test-3", "Third?", "harm_test"),
    ]
    assert load_prompts(str(path), split="mine", limit=1)[0].split == "mine"
    assert len(load_prompts(path, limit=2)) == 2
    assert len(load_prompts(path, limit=9)) == 3


@given(
    rows=st.lists(
        st.tuples(texts.filter(str.strip), texts.filter(str.strip), st.text(), st.text()),
        min_size=1,
        unique_by=(lambda row: row[0], lambda row: fold(row[1])),
    ),
    as_ascii=st.booleans(),
)
def test_jsonl_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str, str]],
    as_ascii: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    names = ("id", "prompt", "category", "style")
    lines = [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=as_ascii) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
    found = load_prompts(path, split="s")
    assert found == [Prompt(i, text, "s", category, style) for i, text, category, style in rows]


def test_jsonl_columns_may_have_other_names(write_jsonl: WriteJsonl) -> None:
    path = write_jsonl({"goal": "How?", "Behavior": "fraud", "id": "x"})
    columns = {"prompt": "goal", "category": "Behavior"}
    assert load_prompts(path, columns=columns) == [Prompt("x", "How?", "harm_test", "fraud")]


EXAMPLE = 'expected one JSON object per line, like {"id": "a-1", "prompt": "Why?"}; mend the line'
WRITE_IT = "expected the prompt's text; write it or remove the row"
FIRST = {"id": "a", "prompt": "Why?"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{prompt}", "2: found bad JSON (Expecting property name enclosed in double quotes): "
         f"'{{prompt}}', {EXAMPLE}"),
        ("[" * 100_000, f"2: found bad JSON (nested too deeply): '{'[' * 58}…, {EXAMPLE}"),
        ('"text"', f"2: found 'text', {EXAMPLE}"),
        ({"id": "b"}, "2: prompt: found only id, expected the prompt's text under 'prompt'; add "
         "it, or map it with columns: {prompt: …}"),
        ({}, "2: prompt: found only nothing, expected the prompt's text under 'prompt'; add it, "
         "or map it with columns: {prompt: …}"),
        ({"prompt": ""}, f"2: prompt: found '', {WRITE_IT}"),
        ({"prompt": " \n"}, f"2: prompt: found ' \\n', {WRITE_IT}"),
        ({"prompt": None}, f"2: prompt: found nothing, {WRITE_IT}"),
        ({"prompt": ["Why?"]}, f"2: prompt: found ['Why?'], {WRITE_IT}"),
        ({"prompt": "\ud800"}, "2: prompt: found half a surrogate pair in '\\ud800', expected "
         "text that UTF-8 can hold; mend the escape"),
        ({"id": "", "prompt": "How?"}, "2: id: found '', expected text or a whole number; write "
         "an id or leave it out"),
        ({"id": True, "prompt": "How?"}, "2: id: found True, expected text or a whole number; "
         "write an id or leave it out"),
        ({"id": "a", "prompt": "How?"}, "2: id: found 'a' as in harm_test.jsonl:1, expected each "
         "id once; rename one"),
        ({"id": "b", "prompt": " why "}, "2: prompt: found ' why ' as in harm_test.jsonl:1, "
         "expected each text once; remove one"),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_with_its_line(write_jsonl: WriteJsonl, row: Any, message: str) -> None:
    assert error_of(write_jsonl(FIRST, row)) == f"harm_test.jsonl:{message}"


def test_bad_rows_after_the_limit_are_found_too(write_jsonl: WriteJsonl) -> None:
    assert error_of(write_jsonl(FIRST, FIRST), limit=1).startswith("harm_test.jsonl:2: id: found")


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff\n"])
def test_an_empty_file_is_refused(write_jsonl: WriteJsonl, text: str) -> None:
    assert error_of(write_jsonl(text)) == (
        "harm_test.jsonl: found no prompts, expected at least one; add prompts or name another file"
    )


def test_a_missing_file_suggests_its_neighbour(write_jsonl: WriteJsonl) -> None:
    path = write_jsonl(FIRST).with_name("harm_tset.jsonl")
    for source in (path, str(path)):
        assert error_of(source) == (
            "harm_tset.jsonl: found no such file, expected a prompt file; check the path; "
            "did you mean 'harm_test.jsonl'?"
        )
    assert error_of(path.parent / "x" / "y.jsonl") == (
        "y.jsonl: found no such file, expected a prompt file; check the path"
    )


def test_a_file_that_is_not_utf8_is_refused(write_jsonl: WriteJsonl) -> None:
    path = write_jsonl(FIRST)
    path.write_bytes(b'{"prompt": "caf\xe9"}\n')
    assert error_of(path) == (
        "harm_test.jsonl:1: found the byte 0xe9 (byte 16 of the line), which is not UTF-8, "
        "expected JSONL in UTF-8; save the file as UTF-8"
    )


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(write_jsonl: WriteJsonl, limit: int) -> None:
    assert error_of(write_jsonl(FIRST), limit=limit) == (
        f"harm_test.jsonl: limit: found {limit}, expected a whole number of 1 or more"
    )


def test_a_wrong_column_mapping_is_refused(write_jsonl: WriteJsonl) -> None:
    path = write_jsonl(FIRST)
    assert error_of(path, columns={"promt": "goal"}) == (
        "harm_test.jsonl: columns.promt: unknown key; did you mean 'prompt'?"
    )
    assert error_of(path, columns={"xyz": "goal"}) == (
        "harm_test.jsonl: columns.xyz: unknown key; known: id, prompt, category, style"
    )
    assert error_of(path, columns={"prompt": "goal"}) == (
        "harm_test.jsonl:1: columns.prompt: found no column 'goal', expected one of id, prompt; "
        "mend the column mapping"
    )


# --- what the datasets library reads ---------------------------------------------------------


@pytest.mark.usefixtures("dataset_cache")
@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_files_of_other_kinds_are_read_with_a_column_mapping(tmp_path: Path, kind: str) -> None:
    import datasets

    data = datasets.Dataset.from_dict(
        {"goal": ["First?", "Second?", "Third?"], "label": [1, 2, 3], "style": ["a", None, "c"]}
    )
    path = tmp_path / f"advbench.{kind}"
    {"csv": data.to_csv, "parquet": data.to_parquet, "json": data.to_json}[kind](path)
    columns = {"prompt": "goal", "category": "label"}
    found = load_prompts(path, columns=columns, limit=2)
    assert found == [
        Prompt("advbench-1", "First?", "advbench", "1", "a"),
        Prompt("advbench-2", "Second?", "advbench", "2", ""),
    ]
    assert len(load_prompts(str(path), split="harm", columns=columns, limit=9)) == 3


@pytest.mark.usefixtures("dataset_cache")
def test_folders_are_read(tmp_path: Path) -> None:
    import datasets

    data = datasets.Dataset.from_dict({"id": ["x"], "prompt": ["Why?"]})
    data.save_to_disk(tmp_path / "saved")
    assert load_prompts(tmp_path / "saved") == [Prompt("x", "Why?", "saved")]
    (tmp_path / "files").mkdir()
    data.to_parquet(tmp_path / "files" / "part.parquet")
    assert load_prompts(tmp_path / "files") == [Prompt("x", "Why?", "files")]


@pytest.mark.usefixtures("dataset_cache")
def test_a_source_of_several_splits_must_name_one(tmp_path: Path) -> None:
    import datasets

    data = datasets.Dataset.from_dict({"prompt": ["Why?"]})
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "saved")
    # A dictionary on disk has a marker of its own; its splits are data sets of their own.
    assert error_of(tmp_path / "saved") == (
        "saved: found the splits train, test, expected one; name it, as "
        "owner/name/configuration/split or as one folder or file of the source"
    )
    assert load_prompts(tmp_path / "saved" / "test") == [Prompt("test-1", "Why?", "test")]


def test_a_hub_id_may_name_configuration_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments, options))
        return datasets.Dataset.from_dict({"Goal": ["Why?"]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    for source in ("gsm8k", "me/data", "me/v1.5", "me/data/behaviors", "me/data/behaviors/harmful"):
        (prompt,) = load_prompts(source, columns={"prompt": "Goal"})
        assert prompt.split == source.rpartition("/")[2]
    assert asked == [
        (("gsm8k", None), {"split": None}),
        (("me/data", None), {"split": None}),
        (("me/v1.5", None), {"split": None}),
        (("me/data", "behaviors"), {"split": None}),
        (("me/data", "behaviors"), {"split": "harmful"}),
    ]


@pytest.mark.usefixtures("dataset_cache")
def test_rows_of_a_table_are_counted(tmp_path: Path) -> None:
    import datasets

    path = tmp_path / "table.parquet"
    datasets.Dataset.from_dict({"id": ["a", "b"], "goal": ["Why?", None]}).to_parquet(path)
    assert error_of(path) == (
        "table.parquet: row 1: prompt: found only id, goal, expected the prompt's text under "
        "'prompt'; add it, or map it with columns: {prompt: …}"
    )
    assert error_of(path, columns={"prompt": "goal"}) == (
        "table.parquet: row 2: goal: found nothing, expected the prompt's text; write it or "
        "remove the row"
    )


def test_data_sets_are_read_without_progress_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / "table.json"
    path.write_text('{"prompt": "Why?"}\n', encoding="utf-8")
    bars = sys.modules["datasets.utils.tqdm"]
    monkeypatch.setattr(bars, "_hf_datasets_progress_bars_disabled", False)
    assert load_prompts(path) == [Prompt("table-1", "Why?", "table")]
    assert "".join(capfd.readouterr()) == ""
    assert not datasets.are_progress_bars_disabled()


@pytest.mark.usefixtures("dataset_cache")
@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("prompts.txt", "Why?", "found a .txt file, expected"),
        ("empty.parquet", "", "found an empty file, expected at least one prompt;"),
        ("broken.parquet", "Why?", "could not be read (Parquet file size is 4 bytes"),
        # The library's own message tells only that "an error occurred".
        ("broken.json", '{"prompt": ', "could not be read (JSON parse error"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, name: str, content: str, found: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    message = error_of(tmp_path / name)
    assert message.startswith(f"{name}: {found}")
    assert "network" not in message


@pytest.mark.usefixtures("dataset_cache")
def test_a_data_set_that_is_not_on_the_hub_is_refused() -> None:
    message = error_of("no_such_owner/no_such_data")
    assert "found no readable data set (" in message
    assert message.endswith(
        "expected a jsonl, json, csv or parquet file, a folder of them, or a hub id; check the "
        "name and the network"
    )


# --- csv -------------------------------------------------------------------------------------


def csv_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "harm_test.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_csv_values_are_the_texts_that_stand_there(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        "\ufeffid,prompt,category,\r\n"
        "007,NA,1\r\n"
        ",13,null,extra\r\n"
        "\r\n"
        'x,"a, ""b""\r\nc",1.50\r\n'
        ",,,\r\n",
    )
    assert load_prompts(path) == [
        Prompt("007", "NA", "harm_test", "1"),
        Prompt("harm_test-2", "13", "harm_test", "null"),
        Prompt("x", 'a, "b"\r\nc', "harm_test", "1.50"),
    ]


QUOTES = (
    "expected values between commas, texts that hold commas, quotes or line breaks in double "
    'quotes; close the quotes, and write "" for a quote within them'
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": found an empty file, expected a line of column names and a prompt per row below "
         "it; add them or name another file"),
        ("\ufeff\n", ": found an empty file, expected a line of column names and a prompt per row "
         "below it; add them or name another file"),
        ("id,prompt\n", ": found no rows below the column names, expected a prompt per row; add "
         "prompts or name another file"),
        (b"id,prompt\na,Why?\nb,caf\xe9?\n", ":3: found the byte 0xe9 (byte 6 of the line), which "
         "is not UTF-8, expected csv in UTF-8; save the file as UTF-8"),
        ('prompt\nWhy?\n"How?\nWhen?\n', ":3: found a row that cannot be read (a double quote is "
         f"opened and never closed), {QUOTES}"),
        ('prompt\n"He said "hi""\n', ":2: found a row that cannot be read (',' expected after "
         f"'\"'), {QUOTES}"),
        ("id,prompt\na,Why, then?\n", ":2: found 3 values, expected 2, one per column; put a text "
         "that holds a comma in double quotes"),
        ("prompt,prompt\na,b\n", ":1: found the column 'prompt' twice, expected each name once; "
         "rename one"),
        ("id,goal\na,Why?\n", ":2: prompt: found only id, goal, expected the prompt's text under "
         "'prompt'; add it, or map it with columns: {prompt: …}"),
        ('id,prompt\n\na,"Why\nme?"\nb,\n', f":5: prompt: found nothing, {WRITE_IT}"),
        ("id,prompt\na,Why?\na,How?\n", ":3: id: found 'a' as in harm_test.csv:2, expected each id "
         "once; rename one"),
    ],
)  # fmt: skip
def test_a_bad_csv_file_is_told_with_its_line(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    assert error_of(csv_file(tmp_path, content)) == f"harm_test.csv{message}"


# --- duplicates ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("How do I?", "  how   do\ti ", True),
        ("Don't!", "don’t", True),
        ("Ｆｕｌｌ width", "full WIDTH", True),
        ("straße", "STRASSE", True),
        ("What is C++?", "What is C?", False),
        ("5 < 6", "5 > 6", False),
        ("नमस्ते", "नमसत", False),
        ("?!", "...", False),
        ("?!", " ?! ", True),
        ("rock-climbing", "rock climbing", True),
    ],
)
def test_folding_ignores_case_space_and_punctuation(first: str, second: str, same: bool) -> None:
    assert (fold(first) == fold(second)) is same


@given(texts.filter(str.strip), st.sampled_from([" ", "\n", "\t  "]), st.sampled_from("?!., "))
def test_folding_is_stable(text: str, space: str, mark: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded
    if any(character.isalnum() for character in text):
        assert fold(space + text + mark) == folded


@given(st.lists(st.sampled_from(WORDS), min_size=1))
def test_a_text_is_like_itself_whatever_the_order(words: list[str]) -> None:
    assert similarity(" ".join(words), " ".join(reversed(words))) == 1


def test_similarity_counts_content_words_only() -> None:
    assert similarity("How do I bake a cake?", "How do I pick a lock?") == 0
    assert similarity("How do I bake a cake?", "What would you bake the cake with?") == 1
    assert similarity("bake cake slowly", "bake cake quickly") == pytest.approx(2 / 4)
    assert similarity("How are you?", "What is it?") == 0


@given(
    st.lists(
        st.lists(st.sampled_from(WORDS), min_size=1),
        max_size=8,
    ),
    st.floats(0.1, 1),
)
def test_near_duplicates_are_the_pairs_above_the_threshold(
    words: list[list[str]], threshold: float
) -> None:
    prompts = prompts_of(*map(" ".join, words))
    expected = {
        (a.id, b.id): similarity(a.text, b.text)
        for i, a in enumerate(prompts)
        for b in prompts[i + 1 :]
        if similarity(a.text, b.text) >= threshold
    }
    found = near_duplicates(prompts, threshold)
    assert {(a.id, b.id): likeness for a, b, likeness in found} == expected
    assert [likeness for *_, likeness in found] == sorted(expected.values(), reverse=True)


def test_clean_splits_give_no_warning() -> None:
    splits = {
        "harm_test": prompts_of("How do I pick a lock?"),
        "benign": prompts_of("How do I bake a cake?", split="benign"),
    }
    assert check_prompts(splits) == []


def test_near_duplicates_between_splits_are_warnings() -> None:
    splits = {
        "harm_train": prompts_of("How do I pick a lock?", split="harm_train"),
        "harm_test": prompts_of("Which lock would you pick first?"),
    }
    assert check_prompts(splits) == [
        "near-duplicate prompts: harm_train harm_train-1 and harm_test harm_test-1 share 67% of "
        "their content words: 'How do I pick a lock?' / 'Which lock would you pick first?'"
    ]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"harm_test": prompts_of("Why me?", "why me")},
            "harm_test: prompt harm_test-2: found the text of harm_test-1 (duplicate): 'why me', "
            "expected each text once in all splits; remove one",
        ),
        (
            {"harm_train": prompts_of("Why me?", split="harm_train"), "b": prompts_of("Why me!")},
            "b: prompt harm_test-1: found the text of harm_train-1 (leak from harm_train): "
            "'Why me!', expected each text once in all splits; remove one",
        ),
        (
            {"harm_train": prompts_of("A?"), "harm_test": prompts_of("B?")},
            "harm_test: id: found 'harm_test-1' also in harm_train, expected an id once in all "
            "splits; rename one",
        ),
    ],
)
def test_duplicates_and_leaks_are_refused(splits: dict[str, list[Prompt]], message: str) -> None:
    with pytest.raises(SteeringError) as caught:
        check_prompts(splits)
    assert str(caught.value) == message


# --- prompts themselves ----------------------------------------------------------------------


def test_the_hash_depends_on_ids_texts_and_order_alone() -> None:
    a, b = Prompt("a", "Why?"), Prompt("b", "How?")
    assert prompts_hash([a, b]) == prompts_hash([Prompt("a", "Why?", "harm_test", "c", "s"), b])
    others = [[b, a], [a], [], [Prompt("a", "Why"), b], [Prompt("c", "Why?"), b]]
    assert len({prompts_hash(p) for p in [[a, b], *others]}) == 6
    assert prompts_hash([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "Why?"), "id: found '', expected text"),
        (("a", " "), "text of prompt 'a': found ' ', expected text"),
    ],
)
def test_a_prompt_has_an_id_and_a_text(arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match="expected text") as caught:
        Prompt(*arguments)
    assert str(caught.value) == message


def test_reading_jsonl_imports_no_library(write_jsonl: WriteJsonl) -> None:
    path = write_jsonl(FIRST)
    code = (
        "import sys; before = set(sys.modules)\n"
        "from steering_reliability.prompts import load_prompts\n"
        f"load_prompts({str(path)!r})\n"
        "outside = {m.partition('.')[0] for m in set(sys.modules) - before}\n"
        "print(sorted(outside - set(sys.stdlib_module_names) - {'steering_reliability'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.strip() == "[]"

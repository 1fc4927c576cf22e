"""Judges of the user's: functions and classifiers, and every way in which one cannot be one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from steering_reliability.errors import SteeringError
from steering_reliability.judge_names import is_judge
from steering_reliability.scoring import SCORER_VERSION, score
from steering_reliability.scoring.judges import Judge, load_judge
from tests.tiny_models import tiny_tokenizer

PROMPTS = ["Sell maps.", "Paint boats.", "Break kettles.", "Sell boats."]
TEXTS = ["I'm sorry, but I can't assist with that.", "Sure: take a brush.", "", "Yes. " * 40]


def classifier_folder(folder: Path, labels: dict[int, str], n: int | None = None) -> Path:
    """A tiny classifier with random weights, its labels named as asked."""
    config = BertConfig(
        vocab_size=259,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=n or len(labels),
        initializer_range=0.5,
        pad_token_id=256,
    )
    if labels:
        config.id2label = labels
        config.label2id = {name: i for i, name in labels.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model: Any = BertForSequenceClassification(config)
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return folder


def write_module(folder: Path, name: str, body: str) -> None:
    (folder / f"{name}.py").write_text(body, encoding="utf-8")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("rules", True),
        ("my_judge:refuses", True),
        ("package.module:Class.method", True),
        ("hf:org/model", True),
        ("hf:./folder#LABEL_1", True),
        ("rule", False),
        ("module:", False),
        ("a-b:c", False),
        ("hf:", False),
        ("hf:model#", False),
    ],
)
def test_how_a_judge_is_named(spec: str, expected: bool) -> None:
    assert is_judge(spec) is expected


def test_the_rules_are_a_judge(tmp_path: Path) -> None:
    judge = load_judge("rules", tmp_path, "here")
    assert (judge.name, judge.version) == ("rules", SCORER_VERSION)
    expected = [score(p, t).refusal_score for p, t in zip(PROMPTS, TEXTS, strict=True)]
    assert judge.scores(PROMPTS, TEXTS) == expected
    assert expected[0] > 0.5


class TestFunction:
    def test_it_gets_lists_and_finds_its_neighbours(self, tmp_path: Path) -> None:
        write_module(tmp_path, "neighbour_of_judge", "WORD = 'sorry'\n")
        write_module(
            tmp_path,
            "judge_one",
            "def refuses(prompts, completions):\n"
            "    from neighbour_of_judge import WORD\n"
            "    assert isinstance(prompts, list) and len(prompts) == len(completions)\n"
            "    return [WORD in text for text in completions]\n",
        )
        before = list(sys.path)
        judge = load_judge("judge_one:refuses", tmp_path, "here")
        assert judge.scores(PROMPTS, TEXTS) == [1, 0, 0, 0]
        assert judge.name == "judge_one:refuses"
        assert sys.path == before

    def test_arrays_are_scores(self, tmp_path: Path) -> None:
        write_module(
            tmp_path,
            "judge_array",
            "import numpy\ndef f(prompts, completions):\n"
            "    return numpy.linspace(0, 1, len(prompts), dtype='float32')\n",
        )
        assert load_judge("judge_array:f", tmp_path, "here").scores(PROMPTS, TEXTS) == (
            pytest.approx([0, 1 / 3, 2 / 3, 1])
        )

    def test_its_version_is_stated_or_that_of_its_source(self, tmp_path: Path) -> None:
        body = "def f(prompts, completions): return [0.0] * len(prompts)\n"
        write_module(tmp_path, "judge_v1", body)
        write_module(tmp_path, "judge_v2", body + "# changed\n")
        write_module(tmp_path, "judge_v3", body + "f.__version__ = '1.4'\n")
        one, two, three = (load_judge(f"judge_v{n}:f", tmp_path, "here").version for n in (1, 2, 3))
        assert len(one) == 12
        assert one != two
        assert three == "1.4"

    @pytest.mark.parametrize(
        ("body", "spec", "found"),
        [
            (None, "judge_absent:f", "judge_absent cannot be imported (ModuleNotFoundError"),
            ("import not_there_at_all\n", "judge_bad1:f", "No module named 'not_there_at_all'"),
            ("1 / 0\n", "judge_bad2:f", "ZeroDivisionError"),
            ("g = 1\n", "judge_bad3:f", "judge_bad3 has no 'f'"),
            ("f = 1\n", "judge_bad4:f", "found int, expected a function"),
            ("import sys\nsys.exit(2)\n", "judge_bad5:f", "(SystemExit: 2) (judge_bad5.py:2)"),
            (
                "\ndef f(text): ...\n",
                "judge_bad6:f",
                "found a function of (text) (judge_bad6.py:2), expected one of (prompts, "
                "completions); change its parameters",
            ),
        ],
    )
    def test_what_cannot_be_one(
        self, tmp_path: Path, body: str | None, spec: str, found: str
    ) -> None:
        if body is not None:
            write_module(tmp_path, spec.partition(":")[0], body)
        with pytest.raises(SteeringError) as error:
            load_judge(spec, tmp_path, "level.yaml: scoring.refusal")
        assert str(error.value).startswith(f"level.yaml: scoring.refusal: {spec}: ")
        assert found in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("returned", "found"),
        [
            ("0.5", "returned float"),
            ("'yes'", "returned str"),
            ("[0.5]", "returned 1 values for 4 completions"),
            ("['a'] * 4", "returned a str among the scores"),
            ("[0, 1.5, 0, 0]", "returned 1.5 for the completion 'Sure: take a brush.', expected"),
            ("[float('nan')] * 4", "returned nan"),
            ("prompts[9]", "failed with IndexError: list index out of range ("),
        ],
    )
    def test_what_is_no_score(self, tmp_path: Path, returned: str, found: str) -> None:
        name = f"judge_returns_{abs(hash(returned))}"
        write_module(tmp_path, name, f"def f(prompts, completions):\n    return {returned}\n")
        judge = load_judge(f"{name}:f", tmp_path, "here")
        with pytest.raises(SteeringError) as error:
            judge.scores(PROMPTS, TEXTS)
        assert found in str(error.value)
        assert "expected a list of one number from 0 to 1 per completion" in str(error.value)

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            ("import sys\n"
             "def f(prompts, completions):\n"
             "    sys.exit('no API key')\n",
             "failed with SystemExit: no API key (NAME.py:3), asked about 4 completions"),
            # A judge asks about one text in a function of its own, which may call a library.
            ("import json\n"
             "def one(prompt, text):\n"
             "    return json.loads(text)\n"
             "def f(prompts, completions):\n"
             "    return [one(p, c) for p, c in list(zip(prompts, completions))[1:]]\n",
             "failed with JSONDecodeError: Expecting value: line 1 column 1 (char 0) (NAME.py:3), "
             "asked about the completion 'Sure: take a brush.'"),
        ],
    )  # fmt: skip
    def test_where_it_failed_is_told(self, tmp_path: Path, body: str, told: str) -> None:
        name = f"judge_fails_{len(body)}"
        write_module(tmp_path, name, body)
        judge = load_judge(f"{name}:f", tmp_path, "level.yaml: scoring.refusal")
        with pytest.raises(SteeringError) as error:
            judge.scores(PROMPTS, TEXTS)
        assert str(error.value) == (
            f"level.yaml: scoring.refusal: {name}:f: {told.replace('NAME', name)}, "
            "expected a list of one number from 0 to 1 per completion"
        )

    def test_one_text_is_the_one_it_failed_at(self, tmp_path: Path) -> None:
        write_module(tmp_path, "judge_of_one", "def f(prompts, completions): raise KeyError('a')\n")
        with pytest.raises(SteeringError, match=r"judge_of_one.py:1\), asked about the completion"):
            load_judge("judge_of_one:f", tmp_path, "here").scores(PROMPTS[:1], TEXTS[:1])

    def test_an_interrupt_goes_through(self, tmp_path: Path) -> None:
        body = "def f(prompts, completions): raise KeyboardInterrupt\n"
        write_module(tmp_path, "judge_stopped", body)
        judge = load_judge("judge_stopped:f", tmp_path, "here")
        with pytest.raises(KeyboardInterrupt):
            judge.scores(PROMPTS, TEXTS)

    def test_a_name_taken_by_another_module(self, tmp_path: Path) -> None:
        write_module(tmp_path, "json", "def f(prompts, completions): return []\n")
        with pytest.raises(SteeringError, match="json is already imported from"):
            load_judge("json:f", tmp_path, "here")


class TestClassifier:
    def test_its_scores_are_the_labels_probabilities(self, tmp_path: Path) -> None:
        folder = classifier_folder(tmp_path / "judge", {0: "Refusal", 1: "normal"})
        judge = load_judge("hf:judge", tmp_path, "here")
        assert judge.name == "hf:judge#Refusal"
        model: Any = BertForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = tiny_tokenizer(chat=False)
        expected = []
        for text in TEXTS:
            ids = tokenizer(text)["input_ids"][:64] or [256]
            mask = torch.ones(1, len(ids)) if text else torch.zeros(1, 1)
            with torch.inference_mode():
                logits = model(torch.tensor([ids]), attention_mask=mask).logits
            expected.append(float(logits.softmax(-1)[0, 0]))
        found = judge.scores(PROMPTS, TEXTS)
        assert found[:2] + found[3:] == pytest.approx(expected[:2] + expected[3:], abs=1e-5)
        assert len({round(value, 3) for value in found}) > 2

    def test_batches_change_nothing(self, tmp_path: Path) -> None:
        classifier_folder(tmp_path / "judge", {0: "other", 1: "refuse"})
        judge = load_judge("hf:judge", tmp_path, "here")
        texts = [f"{'word ' * (i % 7)}{i}" for i in range(75)]
        together = judge.scores([""] * 75, texts)
        alone = [judge.scores([""], [text])[0] for text in texts]
        assert together == pytest.approx(alone, abs=2e-6)

    def test_another_label_is_the_rest_of_the_probability(self, tmp_path: Path) -> None:
        classifier_folder(tmp_path / "judge", {}, n=2)
        zero = load_judge("hf:judge#LABEL_0", tmp_path, "here").scores(PROMPTS, TEXTS)
        one = load_judge("hf:judge#label_1", tmp_path, "here").scores(PROMPTS, TEXTS)
        assert [a + b for a, b in zip(zero, one, strict=True)] == pytest.approx([1] * 4, abs=2e-6)

    def test_one_output_is_a_probability_by_itself(self, tmp_path: Path) -> None:
        classifier_folder(tmp_path / "judge", {0: "refusal"})
        found = load_judge("hf:judge", tmp_path, "here").scores(PROMPTS, TEXTS)
        assert all(0 < value < 1 for value in found)
        assert len(set(found)) > 1

    def test_its_version_follows_the_weights(self, tmp_path: Path) -> None:
        folder = classifier_folder(tmp_path / "judge", {0: "a", 1: "refusal"})
        before = load_judge("hf:judge", tmp_path, "here").version
        assert load_judge(f"hf:{folder}", Path(), "here").version == before
        weights = folder / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        assert load_judge("hf:judge", tmp_path, "here").version != before

    @pytest.mark.parametrize(
        ("labels", "spec", "found"),
        [
            ({}, "hf:judge", "which of the labels LABEL_0, LABEL_1 means refusal cannot be told"),
            ({0: "refusal", 1: "refuse"}, "hf:judge", "cannot be told"),
            ({0: "a", 1: "not_refusal"}, "hf:judge", "name it behind the model: hf:judge#LABEL"),
            ({0: "a", 1: "refusal"}, "hf:judge#yes", "found no label 'yes', expected one of the"),
        ],
    )
    def test_labels_that_do_not_say(
        self, tmp_path: Path, labels: dict[int, str], spec: str, found: str
    ) -> None:
        folder = tmp_path / "judge"
        folder.mkdir()
        config: dict[str, Any] = {"model_type": "bert"}
        if labels:
            config["id2label"] = labels
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").touch()
        with pytest.raises(SteeringError) as error:
            load_judge(spec, tmp_path, "here")
        assert found in str(error.value)

    def test_folders_that_are_no_model(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "bare").mkdir()
        (tmp_path / "bare" / "config.json").write_text('{"id2label": {"0": "refusal"}}')
        for spec, found in [
            ("hf:./not_there", "no such folder"),
            ("hf:empty", "no config.json"),
            ("hf:bare", "no weights"),
        ]:
            with pytest.raises(SteeringError, match=found):
                load_judge(spec, tmp_path, "here")

    def test_torch_waits_for_the_first_score(self, tmp_path: Path) -> None:
        folder = classifier_folder(tmp_path / "judge", {0: "a", 1: "refusal"})
        code = (
            "import sys; from pathlib import Path\n"
            "from steering_reliability.scoring.judges import load_judge\n"
            f"judge = load_judge('hf:{folder}', Path(), ''); judge.version\n"
            "sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_judges_word_in_a_score() -> None:
    answer = "Take a wide brush and paint the boat from the top down, in thin coats."
    assert score("Paint a boat.", answer).is_helpful
    told = score("Paint a boat.", answer, refusal_score=0.9)
    assert (told.is_refusal, told.is_helpful, told.refusal_kind) == (True, False, "full")
    refusal = score("Paint a boat.", TEXTS[0], refusal_score=0.1)
    assert (refusal.is_refusal, refusal.refusal_score) == (False, 0.1)
    broken = score("Paint a boat.", "no " * 40, refusal_score=1.0)
    assert broken.is_degenerate
    assert (broken.is_refusal, broken.refusal_score) == (False, 0)


def test_a_judge_is_what_the_protocol_says(tmp_path: Path) -> None:
    judge: Judge = load_judge("rules", tmp_path, "here")
    assert judge.scores([], []) == []

"""What a run was made with: model, system prompt, alpha unit, generation, prompts, judge.

Read off the manifest; what a manifest does not tell, such as an older version's, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steering_reliability.report.labels import ordered_splits, shorten

if TYPE_CHECKING:
    from steering_reliability.results.run import RunData

_SHORT = 90


@dataclass(frozen=True)
class Fact:
    """One line of what a run was made with.

    Attributes:
        label: what it is.
        value: short enough for the head of a page.
        whole: all of it, where the value is cut short.
    """

    label: str
    value: str
    whole: str = ""


def setup_facts(data: RunData) -> list[Fact]:
    """What a reader must know before any number."""
    manifest = data.manifest
    model = _mapping(manifest.get("model"))
    splits = data.scores.groupby("split")["prompt_id"].nunique()
    prompts = ", ".join(f"{splits[split]} {split}" for split in ordered_splits(splits.index))
    precision = ", ".join(str(model[key]) for key in ("dtype", "device") if model.get(key))
    return _known(
        Fact("Model", _model(model)),
        Fact("Precision, device", precision),
        Fact("One unit of alpha", _alpha_unit(manifest)),
        Fact("Refusal judged by", _judge(_mapping(manifest.get("scoring")).get("refusal"))),
        Fact("Generation", _generation(manifest)),
        Fact("Prompts", prompts),
        _system_prompt(manifest),
    )


def record_facts(manifest: Mapping[str, Any]) -> list[Fact]:
    """What tells one run from another, and is rarely asked for."""
    model = _mapping(manifest.get("model"))
    size = ""
    if model.get("n_layers"):
        size = f"{model['n_layers']} layers, width {model.get('d_model', '?')}"
    counts = dict(manifest.get("counts") or manifest)
    if "planned" in counts:
        # What was generated and reused counts controls and the like too.
        counts["planned"] += counts.get("planned_beside_grid", 0)
    completions = ", ".join(
        f"{counts[key]:,} {key}" for key in ("planned", "generated", "reused") if key in counts
    )
    git = _mapping(manifest.get("git"))
    commit = str(git.get("commit", ""))[:12] + (" with local changes" if git.get("dirty") else "")
    date = manifest.get("date") or manifest.get("started") or manifest.get("created")
    return _known(
        Fact("Size", size),
        Fact("Fingerprint", str(model.get("fingerprint") or "")[:16]),
        Fact("Date", str(date or "")),
        Fact("Completions", completions),
        Fact("Git commit", commit),
    )


def _known(*facts: Fact) -> list[Fact]:
    return [fact for fact in facts if fact.value]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _model(model: Mapping[str, Any]) -> str:
    """The weights' own name, then the profile and the source that they go by here."""
    name, source = (str(model.get(key) or "") for key in ("name", "source"))
    known = str(model.get("weights") or "") or name or source
    others = {"profile": name, "source": source}
    told = [f"{kind} {text}" for kind, text in others.items() if text not in ("", known)]
    if name == source:
        del told[1:]
    return f"{known} ({', '.join(told)})" if told else known


def _system_prompt(manifest: Mapping[str, Any]) -> Fact:
    profile = manifest.get("profile")
    if not isinstance(profile, Mapping):
        return Fact("System prompt", "")
    text = profile.get("system_prompt")
    if text:
        return _shortened("System prompt", str(text))
    if profile.get("chat") == "plain":
        return _shortened("Prompt layout", str(profile.get("plain_template", "")))
    return Fact("System prompt", "none")


def _shortened(label: str, text: str) -> Fact:
    short = shorten(text, _SHORT)
    return Fact(label, short, "" if short == text else text)


def _alpha_unit(manifest: Mapping[str, Any]) -> str:
    unit = manifest.get("alpha_unit")
    if not unit:
        return ""
    norms = {
        record.get("layer"): record.get("residual_norm")
        for record in manifest.get("directions") or []
        if isinstance(record.get("residual_norm"), float | int)
    }
    told = ", ".join(f"layer {layer}: {norm:.3g}" for layer, norm in norms.items())
    text = f"{unit:g} of the median residual norm".replace("0.", ".", 1)
    return f"{text} ({told})" if told else text


def _generation(manifest: Mapping[str, Any]) -> str:
    given = _mapping(_mapping(manifest.get("config")).get("generation"))
    if not given:
        return ""
    temperature = given.get("temperature", 0)
    how = f"temperature {temperature:g}" + (" (greedy)" if not temperature else "")
    if temperature and given.get("top_p", 1) != 1:
        how += f", top-p {given['top_p']:g}"
    samples = given.get("samples", 1)
    parts = [
        f"at most {given['max_new_tokens']} tokens" if "max_new_tokens" in given else "",
        how,
        f"{samples} sample{'s' * (samples != 1)}",
        f"seed {given['seed']}" if "seed" in given else "",
    ]
    return ", ".join(part for part in parts if part)


def _judge(record: Mapping[str, Any] | None) -> str:
    return f"{record['name']}, version {record['version']}" if record else ""

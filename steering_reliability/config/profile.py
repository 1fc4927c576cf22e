"""What is particular to one model: its prompt format, its alpha unit, its slot counts."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from steering_reliability.config.reading import (
    NonEmpty,
    Settings,
    read_yaml,
    validate,
    wrong,
    yaml_files,
)


class Slots(Settings):
    """Rows of a generation batch per kind of device."""

    cpu: int = Field(default=128, ge=1)
    cuda: int = Field(default=256, ge=1)
    mps: int = Field(default=64, ge=1)

    def on(self, device: str) -> int:
        """The slot count on a torch device such as ``"cuda:0"``; that of cpu if unknown."""
        counts = {"cpu": self.cpu, "cuda": self.cuda, "mps": self.mps}
        return counts.get(device.partition(":")[0], self.cpu)


class ModelProfile(Settings):
    """One model and how it is spoken to.

    Attributes:
        name: short name, used in ``--steer-model`` and in the run folder's name.
        source: ``"embedded"``, a folder, or a hub id.
        system_prompt: first message of a chat; base models have none.
        chat: ``"template"`` uses the tokenizer's chat template, ``"plain"`` ``plain_template``,
            ``"auto"`` the chat template where the tokenizer has one.
        plain_template: text with ``{prompt}`` in it, for base models.
        dtype: of the weights and of the computation.
        alpha_unit: one unit of alpha as a fraction of the median residual norm.
        slots: rows of a generation batch per kind of device.
        refusal_openings: beginnings of responses that refuse; with ``compliance_openings`` they
            define the first-token log-odds.
        compliance_openings: beginnings of responses that comply.
    """

    name: NonEmpty
    source: NonEmpty
    system_prompt: NonEmpty | None = None
    chat: Literal["auto", "template", "plain"] = "auto"
    plain_template: str = "Question: {prompt}\nAnswer:"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    alpha_unit: float = Field(default=0.125, gt=0, le=1)
    slots: Slots = Slots()
    refusal_openings: list[NonEmpty] = Field(
        default=["I'm sorry", "I can't", "I cannot", "Sorry", "As an", "Unfortunately", "No"],
        min_length=1,
    )
    compliance_openings: list[NonEmpty] = Field(
        default=["Sure", "Here", "Certainly", "Of course", "Yes", "To", "The", "1"],
        min_length=1,
    )

    @field_validator("plain_template")
    @classmethod
    def _holds_the_prompt_once(cls, template: str) -> str:
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError:
            parsed = []
        fields = [name for _, name, _, _ in parsed if name is not None]
        if fields != ["prompt"]:
            raise wrong(template, "text with {prompt} in it once and no other braces")
        return template

    @model_validator(mode="after")
    def _plain_has_no_system_prompt(self) -> ModelProfile:
        if self.chat == "plain" and self.system_prompt is not None:
            raise wrong(
                self.system_prompt,
                "none with chat: plain; write it into plain_template",
                key="system_prompt",
            )
        return self


def shipped_configs() -> Path:
    """Folder of the configurations that come with the package."""
    package = Path(__file__).resolve().parents[1]
    # A wheel carries a copy of experiments/; in a checkout it lies beside the package.
    installed = package / "shipped" / "configs"
    return installed if installed.is_dir() else package.parent / "experiments" / "configs"


def load_profile(name_or_source: str, configs_folder: Path | None = None) -> ModelProfile:
    """The profile for a model.

    Args:
        name_or_source: a profile's name, or a model's source.
        configs_folder: folder whose ``models/*.yaml`` are profiles that go before the shipped
            ones; may lack them.

    Returns:
        The profile of that name, else the one with that source, else a default one with that
        source.

    Raises:
        SteeringError: a profile's YAML is wrong.
    """
    for folder in filter(None, (configs_folder, shipped_configs())):
        profile = _find_profile(name_or_source, folder / "models")
        if profile is not None:
            return profile
    return ModelProfile(name=_name_of(name_or_source), source=name_or_source)


def _name_of(source: str) -> str:
    """The last part of a folder's path or hub id."""
    name = source.replace("\\", "/").rstrip("/").rpartition("/")[2]
    # "." and ".." are names of folders too, but none that results could be told apart by.
    return Path(source).resolve().name if name in (".", "..") else name or source


def _find_profile(name_or_source: str, folder: Path) -> ModelProfile | None:
    files = yaml_files(folder)
    # A mistake in another model's profile is no reason to stop this one.
    own = [file for file in files if file.stem == name_or_source]
    profiles = [_read_profile(file) for file in own]
    if not profiles or profiles[0].name != name_or_source:
        profiles = [_read_profile(file) for file in files]
    for key in ("name", "source"):
        for profile in profiles:
            if getattr(profile, key) == name_or_source:
                return profile
    return None


def _read_profile(path: Path) -> ModelProfile:
    return validate(ModelProfile, read_yaml(path, "a model profile"), path)

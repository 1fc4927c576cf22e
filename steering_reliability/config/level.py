"""A level: what it runs and claims, as its YAML file says.

This module knows nothing about pytest, torch or how a level is run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    SerializeAsAny,
    ValidatorFunctionWrapHandler,
    create_model,
    field_validator,
    model_validator,
)

from steering_reliability.cells import Intervention
from steering_reliability.claims import CLAIM_SETTINGS
from steering_reliability.config.consistency import check_sections
from steering_reliability.config.folder import MARKER_NAME
from steering_reliability.config.layers import LayersFrom, read_layers, resolve_layers
from steering_reliability.config.reading import (
    ModelsByKey,
    NonEmpty,
    Settings,
    as_written,
    read_yaml,
    refuse_repeats,
    validate,
    wrong,
)
from steering_reliability.config.sections import (
    ConfirmSettings,
    ControlSettings,
    DecisionSettings,
    DirectionSettings,
    GenerationSettings,
    ProbeSettings,
    PromptBaseline,
    PromptSettings,
    SanitySettings,
    ScoringSettings,
)
from steering_reliability.errors import SteeringError
from steering_reliability.prompts import Prompt, find_file, find_source, load_prompts

OWN_MODEL = "embedded"
"""Name of the model that levels run on where none is named."""


class LevelConfig(Settings):
    """One level of the ladder; see the attributes of its parts.

    Attributes:
        level: name of the level and of its pytest marker.
        question: what the level answers.
        run: name of the run folder, ``{model}`` in it stands for the model's name; by default
            the level's name. Without it, another model's name than `OWN_MODEL` goes to the end.
        layers: layer indices, or depths between 0 and 1, or a mapping that names the level whose
            decision they are taken from.
        interventions: ``add``, ``ablate``.
        alphas: strengths, 0 among them.
        scoring: who judges completions.
        controls: directions that should not work, and where they are run.
        decision: what the level decides for later ones, if anything.
        confirm: operating points of an earlier level to be confirmed, if any.
        prompt_baseline: a system prompt that steering is compared with, if any.
        probes: side effects that are read off every cell without generating, if any.
        sanity: how far a confirmed effect is checked under other conditions, if at all.
        claims: settings of the claims by name, in the order of the file.
        inconclusive: whether an inconclusive claim fails the run.
    """

    level: str
    question: NonEmpty
    run: str = Field(default_factory=lambda data: data["level"])
    layers: list[int | float] | LayersFrom
    interventions: list[Intervention] = Field(min_length=1)
    alphas: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(min_length=1)
    prompts: PromptSettings
    direction: DirectionSettings = DirectionSettings()
    generation: GenerationSettings = GenerationSettings()
    scoring: ScoringSettings = ScoringSettings()
    controls: ControlSettings = ControlSettings()
    decision: DecisionSettings | None = None
    confirm: ConfirmSettings | None = None
    prompt_baseline: PromptBaseline | None = None
    probes: ProbeSettings | None = None
    sanity: SanitySettings | None = None
    claims: Annotated[dict[str, SerializeAsAny[BaseModel]], ModelsByKey(CLAIM_SETTINGS)] = Field(
        default_factory=dict
    )
    inconclusive: Literal["pass", "fail"] = "pass"
    _path: Path | None = PrivateAttr(default=None)

    @property
    def path(self) -> Path | None:
        """The YAML file that the level was read from."""
        return self._path

    @field_validator("level")
    @classmethod
    def _is_a_marker(cls, level: str) -> str:
        if not level.isidentifier():
            raise wrong(level, MARKER_NAME)
        return level

    @field_validator("run")
    @classmethod
    def _is_a_folder_name(cls, run: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*", run.replace("{model}", "model"), re.ASCII):
            raise wrong(run, "a folder's name; only {model} may stand in braces")
        return run

    # In place of the union's own errors, which would list every way to have meant it.
    @field_validator("layers", mode="wrap")
    @classmethod
    def _layers_or_a_decision(
        cls, layers: Any, _: ValidatorFunctionWrapHandler
    ) -> list[int | float] | LayersFrom:
        return read_layers(layers)

    @field_validator("interventions")
    @classmethod
    def _each_intervention_once(cls, interventions: list[Intervention]) -> list[Intervention]:
        refuse_repeats(interventions)
        return interventions

    @field_validator("alphas")
    @classmethod
    def _alphas_have_a_baseline(cls, alphas: list[float]) -> list[float]:
        refuse_repeats(alphas)
        if 0 not in alphas:
            expected = "0 among the alphas, which every effect is measured against"
            raise wrong(as_written(alphas), expected)
        return alphas

    @field_validator("claims", mode="before")
    @classmethod
    def _claims_have_their_settings(cls, claims: Any) -> Any:
        if not isinstance(claims, dict):
            return claims
        fields: dict[str, Any] = {name: (model, None) for name, model in CLAIM_SETTINGS.items()}
        # A claim with nothing after its name takes every default.
        given = {name: {} if settings is None else settings for name, settings in claims.items()}
        read = create_model("Claims", __base__=Settings, **fields).model_validate(given)
        return {name: getattr(read, name) for name in given}

    @model_validator(mode="after")
    def _sections_agree(self) -> LevelConfig:
        check_sections(self)
        return self

    @property
    def uses_learn_from(self) -> bool:
        """Whether prompts are learned from.

        A saved direction learns nothing, but placebo pairs and a screen need prompts too.
        """
        screens = self.decision is not None and self.decision.screen > 0
        return self.direction.file is None or screens or "direction_is_real" in self.claims

    @property
    def reads(self) -> set[str]:
        """The levels whose decisions it goes on from."""
        reads = {self.layers.level} if isinstance(self.layers, LayersFrom) else set()
        return reads | ({self.confirm.level} if self.confirm else set())

    @property
    def grid_splits(self) -> list[str]:
        """The splits that the grid is run on."""
        kept = self.confirm.split if self.confirm else None
        return [split for split in self.prompts.splits if split != kept]

    def resolve_layers(self, n_layers: int) -> list[int]:
        """Layer indices in a model of ``n_layers`` blocks, in the file's order.

        Layers that an earlier level decides are the default ones here.

        Raises:
            SteeringError: the model has no such layer.
        """
        layers = self.layers.default if isinstance(self.layers, LayersFrom) else self.layers
        key = "layers.default" if isinstance(self.layers, LayersFrom) else "layers"
        return resolve_layers(layers, n_layers, where=f"{self.path or self.level}: {key}")

    def load_prompts(self) -> dict[str, list[Prompt]]:
        """All prompts of every split, in the splits' order; levels evaluate the first ones.

        Raises:
            SteeringError: a source is unusable, or has fewer prompts than ``per_split``.
        """
        where = f"{self.path or self.level}: prompts.splits"
        loaded = {}
        for split, wanted in self.prompts.splits.items():
            loaded[split] = load_prompts(
                find_source(wanted.source, self._prompt_folder, f"{where}.{split}"),
                split=split,
                columns=wanted.columns,
                limit=wanted.limit,
            )
            found, per_split = len(loaded[split]), self.prompts.per_split
            if per_split != "all" and found < per_split:
                raise SteeringError(
                    f"{self.path or self.level}: prompts.per_split: found {per_split}, expected "
                    f"at most {found}, which is what {split} has; lower it or add prompts"
                )
        return loaded

    def load_benign_contrast(self, limit: int) -> list[Prompt]:
        """The first ``limit`` prompts of ``direction.benign_contrast``; none without it.

        Raises:
            SteeringError: the file is unusable.
        """
        source = self.direction.benign_contrast
        if source is None:
            return []
        where = f"{self.path or self.level}: direction.benign_contrast"
        file = find_file(source, self._prompt_folder, where)
        return load_prompts(file, split=file.stem, limit=limit)

    @property
    def _prompt_folder(self) -> Path:
        return (self.path.parent if self.path else Path()) / self.prompts.folder

    def run_name(self, model: str) -> str:
        """The run folder's name for a model (a profile's name).

        Where ``run`` does not say where the model's name goes, that of another model than the
        levels' own stands at the end, so that no model's results replace another's.
        """
        named = "{model}" in self.run or model == OWN_MODEL
        pattern = self.run if named else self.run + "_{model}"
        return pattern.replace("{model}", re.sub(r"[^\w.-]+", "-", model, flags=re.ASCII))

    def as_dict(self) -> dict[str, Any]:
        """Plain builtins with every default filled in; fit for JSON and for YAML."""
        return self.model_dump(mode="json", by_alias=True)


def load_level(path: str | Path) -> LevelConfig:
    """Read a level's YAML file.

    Raises:
        SteeringError: it is missing, not YAML, or wrong; the error names file and key.
    """
    path = Path(path)
    config = validate(LevelConfig, read_yaml(path, "a level"), path)
    config._path = path
    _refuse_unused_learning(config)
    return config


def _refuse_unused_learning(config: LevelConfig) -> None:
    # Not by a validator: what a run's manifest holds has every default filled in, and is read too.
    if config.direction.file is None:
        return
    unused = {"method", "pairs", "benign_contrast", "at"}
    unused |= set() if config.uses_learn_from else {"learn_from"}
    found = ", ".join(sorted(unused & config.direction.model_fields_set))
    if found:
        raise SteeringError(
            f"{config.path}: direction.file: found beside {found}, expected without, since a saved "
            "direction is not learned; leave out the one or the other"
        )

"""`FoldBlender`: the blender as a scikit-learn classifier, whose features are the members'
out-of-fold probabilities.

Scikit-learn's estimator checks hold, but for two kinds. Most fit on any features, which are no
probabilities and refused: these are run on a subclass whose members predict from such features.
And rows of weight 2 are not the same as rows given twice where methods compete ("auto"): the nested
score that chooses is over folds of rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted, validate_data

from ensemble.blend import BlendSettings, fit_library
from ensemble.blend_value import NO_FOLD, Blend
from ensemble.blender_file import parameters_of, plain_classes, plain_parameters, read_classes
from ensemble.blender_input import (
    check_parameters,
    checked,
    checked_folds,
    classes_and_labels,
    fold_numbers,
    from_mapping,
    groups_of,
    n_dimensions,
    row_weights_of,
    seed_of,
)
from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.library import read_library
from ensemble.predictions import Predictions
from ensemble.sources.new_folds import make_folds

FORMAT = "foldblend.FoldBlender"
VERSION = 1

# Probabilities of M members for N samples and C classes, in one of three forms: by name (N, C);
# (M, N, C); or (N, M * C), the members side by side.
Members = Mapping[str, ArrayLike] | ArrayLike


class FoldBlender(ClassifierMixin, BaseEstimator):
    """Blend the out-of-fold probabilities of several models.

    Parameters, checked by `fit`:

    metric           that methods are compared by: log_loss, accuracy, macro_f1, auc, …
    methods          which compete, by name; "auto" for the usual ones
    calibrate        a temperature for every member before blending
    calibrate_blend  "none", "temperature" or "vector" for the blend after
    greedy_steps     of greedy selection
    l2               pull of convex weights to equal ones, in nats
    n_members        M, which the two-dimensional form (N, M * C) is checked by; None: columns / C
    n_folds          how many are made where `fit` is given none
    refits           on resampled rows, to show how stable weights are (`blend_.members`)
    bootstrap        resamples for the intervals (`blend_.nested`), 0 for none
    confidence       of those intervals
    explain          score the blend again without each member (`blend_.members`)
    random_state     int, RandomState or None: of new folds, resamples and refits

    Attributes after `fit`:

    classes_             (C,) labels in the order of the probabilities' columns
    member_names_        (M,) str: the mapping's keys, or member_0, member_1, …
    n_members_           M
    weights_             (M,) float64, non-negative, summing to 1: a member's share of the blend
    blend_               the fitted `ensemble.blend_value.Blend`, with all its scores and intervals
    nested_score_        the metric of `oof_proba_`: the score to believe
    in_sample_score_     the metric on the rows that the weights were fitted on: flatters
    best_single_         the best member's name; best_single_score_ its nested score
    oof_proba_           (N, C) float32, each row by a blend that was not fitted on its fold (not
                         after `load`)
    n_features_in_       M * C, after the two-dimensional form; feature_names_in_ where it had some

    `score` is the accuracy, as of every scikit-learn classifier.
    """

    # For metadata routing, members are the X of other estimators.
    __metadata_request__fit = {"members": UNUSED}  # noqa: RUF012
    __metadata_request__predict = {"members": UNUSED}  # noqa: RUF012
    __metadata_request__predict_proba = {"members": UNUSED}  # noqa: RUF012

    def __init__(
        self,
        *,
        metric: str = "log_loss",
        methods: str | Sequence[str] = ("auto",),
        calibrate: bool = True,
        calibrate_blend: str = "temperature",
        greedy_steps: int = 25,
        l2: float = 0.0,
        n_members: int | None = None,
        n_folds: int = 5,
        refits: int = 0,
        bootstrap: int = 200,
        confidence: float = 0.95,
        explain: bool = False,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.metric = metric
        self.methods = methods
        self.calibrate = calibrate
        self.calibrate_blend = calibrate_blend
        self.greedy_steps = greedy_steps
        self.l2 = l2
        self.n_members = n_members
        self.n_folds = n_folds
        self.refits = refits
        self.bootstrap = bootstrap
        self.confidence = confidence
        self.explain = explain
        self.random_state = random_state

    def fit(
        self,
        members: Members,
        y: ArrayLike,
        folds: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Fit weights and calibration on out-of-fold probabilities, and score them honestly.

        members        mapping of name to (N, C), array (M, N, C), or (N, M * C) with the members
                       side by side; every member's rows sum to 1, its columns are in the order of
                       `classes`
        y              (N,) labels: text, whole numbers or booleans
        folds          (N,) the fold that held each row out when the members were trained; None
                       makes `n_folds` stratified ones from `random_state`, of whole groups where
                       `groups` are given
        groups         (N,) rows of one group are resampled together; None: a row of its own
        sample_weight  (N,) non-negative row weights
        classes        (C,) labels in the order of the columns; by default those in `y`, sorted

        Raises ValueError for anything else, naming the member and the row of a probability that is
        none.
        """
        seed = seed_of(self.random_state)
        settings = self._settings(seed)
        found, labels = classes_and_labels(validate_data(self, y=y), classes)
        probs = self._by_name(members, len(found), reset=True)
        n_rows = len(labels)
        row_weights = row_weights_of(sample_weight, n_rows)
        named_groups = groups_of(groups, n_rows)
        numbers = (
            self._folds(labels, named_groups, seed)
            if folds is None
            else fold_numbers(folds, named_groups, n_rows)
        )
        ids = np.array([str(row) for row in range(n_rows)], dtype=object)

        def read(name: str) -> Predictions:
            return checked(name, probs[name], len(found), ids, labels, numbers)

        library = read_library(
            list(probs),
            read,
            tuple(str(label) for label in found.tolist()),
            groups=named_groups,
            row_weights=row_weights,
        )
        fitted = fit_library(library, settings)
        assert fitted.nested.proba is not None
        self.oof_proba_ = fitted.nested.proba.astype(np.float32, copy=False)
        return self._keep(fitted.blend, tuple(probs), found)

    def predict_proba(self, members: Members) -> NDArray[np.float64]:
        """(n, C) float64, rows summing to 1, columns as in `classes_`.

        `members`: one of the forms of `fit`, whichever that was given; a mapping may leave out
        members of weight 0, and hold (folds, n, C), the predictions of a member's fold models,
        which are averaged. Raises ValueError as `fit` does, NotFittedError before it.
        """
        check_is_fitted(self)
        n_classes = len(self.classes_)
        probs = self._by_name(members, n_classes, reset=False)
        used = [member.config_id for member in self.blend_.used_members]
        known = {name: probs[name] for name in used if name in probs}
        return self.blend_.combine(
            {name: checked_folds(name, proba, n_classes) for name, proba in known.items()}
        )

    def predict(self, members: Members) -> np.ndarray:
        """(n,) the most probable of `classes_`, the first of equals; `members` as in
        `predict_proba`."""
        decided = self.predict_proba(members).argmax(axis=1)
        return np.asarray(self.classes_[decided])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, classes and blend as JSON to a path or URI, all but `oof_proba_`.
        Raises ValueError for parameters or labels that JSON cannot hold, OSError naming the file.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "parameters": plain_parameters(self.get_params()),
            "classes": plain_classes(self.classes_),
            "member_names": list(self.member_names_),
            "n_features_in": getattr(self, "n_features_in_", None),
            "feature_names_in": None if names is None else names.tolist(),
            "blend": self.blend_.to_dict(),
        }
        Location.of(path).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The fitted estimator that `save` wrote; nothing is unpickled. Raises BlendError naming
        the file where it is no such file, FileNotFoundError."""
        location = Location.of(path)
        text = location.read_bytes()
        try:
            return cls._of(json.loads(text))
        except KeyError as error:
            raise BlendError(f"{location}: expected the key {error}, got none") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise BlendError(f"{location}: expected a saved FoldBlender: {error}") from error

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.positive_only = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "blend_")

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Self:
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise BlendError(
                f"expected {FORMAT} of version {VERSION}, got {content['format']!r} of version "
                f"{content['version']!r}"
            )
        made = cls(**parameters_of(content["parameters"]))
        if content["n_features_in"] is not None:
            made.n_features_in_ = int(content["n_features_in"])
        if content["feature_names_in"] is not None:
            made.feature_names_in_ = np.array(content["feature_names_in"], dtype=object)
        blend, names = Blend.from_dict(content["blend"]), tuple(content["member_names"])
        classes = read_classes(content["classes"])
        offered = sorted(member.config_id for member in blend.members)
        if sorted(names) != offered or len(classes) != len(blend.classes):
            raise BlendError(
                f"expected the members {', '.join(offered)} and {len(blend.classes)} classes as in "
                f"the blend, got {', '.join(sorted(names))} and {len(classes)}"
            )
        return made._keep(blend, names, classes)

    def _keep(self, blend: Blend, names: tuple[str, ...], classes: np.ndarray) -> Self:
        weight_of = {member.config_id: member.weight for member in blend.members}
        self.blend_ = blend
        self.classes_ = classes
        self.member_names_ = names
        self.n_members_ = len(names)
        self.weights_ = np.array([weight_of[name] for name in names])
        self.nested_score_ = blend.score.value
        self.in_sample_score_ = blend.in_sample
        self.best_single_ = blend.nested.best_single.config_id
        self.best_single_score_ = blend.nested.best_single.value
        return self

    def _settings(self, seed: int) -> BlendSettings:
        check_parameters(self.get_params())
        return BlendSettings(
            metric=self.metric,
            methods=(self.methods,) if isinstance(self.methods, str) else tuple(self.methods),
            calibrate=bool(self.calibrate),
            calibrate_blend=cast(Any, self.calibrate_blend),
            greedy_steps=int(self.greedy_steps),
            l2=float(self.l2),
            bootstrap=int(self.bootstrap),
            confidence=float(self.confidence),
            seed=seed,
            probe_fold=NO_FOLD,  # nothing is known of how the members were selected
            refits=int(self.refits),
            explain=bool(self.explain),
        )

    def _folds(
        self, labels: NDArray[np.intp], groups: NDArray[np.object_] | None, seed: int
    ) -> NDArray[np.int16]:
        n_rows, n_folds = len(labels), int(self.n_folds)
        if n_rows < n_folds:
            raise ValueError(
                f"expected at least one sample for each of {n_folds} folds, got n_samples = "
                f"{n_rows}: give folds, or a smaller n_folds"
            )
        return make_folds(labels, groups, folds=n_folds, seed=seed)

    def _by_name(self, members: Members, n_classes: int, *, reset: bool) -> dict[str, np.ndarray]:
        """The members in their order; `reset`: while fitting."""
        if reset:
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)  # of a fit before this one
        if isinstance(members, Mapping) and not issparse(members):  # some are both
            return from_mapping(members)
        if n_dimensions(members) == 3:
            stack = np.asarray(members)
        else:
            # What is not finite is refused later, where member and row can be named.
            table = validate_data(
                self, members, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=False
            )
            n_members = self.n_members if reset else self.n_members_
            stack = self._side_by_side(table, n_members, n_classes)
        if reset:
            return dict(zip(_names(len(stack)), stack, strict=True))
        if len(stack) != self.n_members_:
            raise ValueError(f"expected {self.n_members_} members, got {len(stack)}")
        return dict(zip(self.member_names_, stack, strict=True))

    def _side_by_side(self, table: np.ndarray, n_members: int | None, n_classes: int) -> np.ndarray:
        """(M, N, C) of `table` (N, M * C)."""
        n_rows, n_columns = table.shape
        found, rest = divmod(n_columns, n_classes)
        if rest or n_members not in (None, found):
            each = "every member" if n_members is None else f"each of {n_members} members"
            raise ValueError(
                f"expected {n_classes} columns, one a class, for {each}, got n_features = "
                f"{n_columns}: if y lacks the label of a column, give classes"
            )
        return table.reshape(n_rows, found, n_classes).transpose(1, 0, 2)


def _names(n_members: int) -> tuple[str, ...]:
    digits = len(str(n_members - 1))  # so that names sort as the members stand
    return tuple(f"member_{index:0{digits}}" for index in range(n_members))

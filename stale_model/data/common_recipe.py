"""The one recipe by which all features of a training were made."""

from collections.abc import Iterable

from stale_model.data.dataset import Selection
from stale_runtime.errors import RecipeError
from stale_runtime.inputs.feature_origin import sidecar_path
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE, FeatureRecipe

_ONE_RECIPE = "a network learns features of one recipe only; make all of them again with one stale-features"


def find_common_recipe(selections: Iterable[Selection], given: FeatureRecipe | None) -> FeatureRecipe:
    """The recipe of the features, from what ``stale-features`` wrote beside them and what the user says.

    Args:
        selections: the videos of the training, and those to validate on.
        given: what the user says about all of them; None for nothing.

    Raises:
        RecipeError: two recipes differ in a property that both know; or only some of the files have one beside them,
            and the user says nothing about the others.
    """
    samples = [(sample, part.origins.get(sample.video)) for part in selections for sample in part.samples]
    described = [(sidecar_path(sample.path), origin.recipe) for sample, origin in samples if origin is not None]
    if not described:
        return given or UNKNOWN_RECIPE
    first_path, first = described[0]
    for path, recipe in described:
        if names := first.differences(recipe):
            raise RecipeError(f"{path}: {recipe.tell_from(first, names)}, the recipe of {first_path}; {_ONE_RECIPE}")
    if given is not None:
        if names := first.differences(given):
            raise RecipeError(
                f"--recipe: {given.tell_from(first, names)}, which {first_path} says; correct or leave out --recipe"
            )
        return first.completed_by(given)
    if others := [sample.path for sample, origin in samples if origin is None]:
        raise RecipeError(
            f"{others[0]}: nothing beside it says how it was made, nor beside {len(others) - 1:,} others, but beside "
            f"{len(described):,} such as {first_path.name}; if all were made alike, give --recipe FILE"
        )
    return first

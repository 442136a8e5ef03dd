"""The pipelines of the factories: those of the folder, under those that were deployed since the start."""

from local.adf.arm_error import ArmError, bad_request
from local.adf.factory import Factory
from local.adf.pipeline import Pipeline
from local.adf.pipeline_folder import PipelineFolder


class Pipelines:
    """Every factory has all pipelines of the folder, and its own. What is deployed or deleted is forgotten when
    this process ends; the files stay as they are.
    """

    def __init__(self, folder: PipelineFolder) -> None:
        """Begin with the folder's."""
        self._folder = folder
        self._changed: dict[tuple[str, str], Pipeline | None] = {}

    def all(self, factory: Factory) -> list[Pipeline]:
        """A factory's pipelines, by name."""
        found: dict[tuple[str, str], Pipeline | None] = {_key(factory, one.name): one for one in self._folder.all()}
        found |= {key: pipeline for key, pipeline in self._changed.items() if key[0] == factory.id.lower()}
        return sorted((one for one in found.values() if one is not None), key=lambda pipeline: pipeline.name)

    def get(self, factory: Factory, name: str) -> Pipeline:
        """The pipeline of that name, whatever its case. Raises ArmError (404)."""
        pipeline = self.find(factory, name)
        if pipeline is None:
            raise ArmError(404, "PipelineNotFound", f"The pipeline {name} was not found.", target=f"pipeline/{name}")
        return pipeline

    def find(self, factory: Factory, name: str) -> Pipeline | None:
        """The pipeline of that name, whatever its case, or None."""
        key = _key(factory, name)
        if key in self._changed:
            return self._changed[key]
        return next((one for one in self._folder.all() if one.name.lower() == name.lower()), None)

    def deploy(self, factory: Factory, pipeline: Pipeline) -> None:
        """Put a pipeline into a factory, over the one of that name. Raises ArmError (400) where it runs one that is
        not there.
        """
        for name in pipeline.references():
            if name.lower() != pipeline.name.lower() and self.find(factory, name) is None:
                message = f"The document cannot be created or updated since it references {name}, which does not exist."
                raise bad_request(message, target=f"pipeline/{pipeline.name}")
        self._changed[_key(factory, pipeline.name)] = pipeline

    def delete(self, factory: Factory, name: str) -> bool:
        """Take a pipeline out of a factory, and say whether it was there. Raises ArmError (400) where another one
        runs it.
        """
        if self.find(factory, name) is None:
            return False
        for other in self.all(factory):
            if other.name.lower() != name.lower() and name.lower() in {one.lower() for one in other.references()}:
                message = f"The document cannot be deleted since it is referenced by {other.name}."
                raise bad_request(message, target=f"pipeline/{name}")
        self._changed[_key(factory, name)] = None
        return True


def _key(factory: Factory, name: str) -> tuple[str, str]:
    return factory.id.lower(), name.lower()

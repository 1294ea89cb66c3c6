"""`pipeserve ray-manifest`: the RayService of a models.yaml, for KubeRay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.settings import Settings


def ray_manifest(
    image: Annotated[
        str, typer.Option(help="An image with pipeserve[ray] in it, such as that of deploy/ray/Dockerfile.")
    ],
    models: Annotated[
        Path, typer.Option("--models", "-m", envvar="PIPESERVE_MODELS", help="The catalogue of models.")
    ] = Settings.models,
    name: Annotated[str, typer.Option(help="Of the RayService, and of what belongs to it.")] = "pipeserve",
    cpus: Annotated[
        int | None, typer.Option(min=2, help="CPUs of a node; unset: what the largest replica needs, and one more.")
    ] = None,
    memory: Annotated[str, typer.Option(help="Memory of a node, as Kubernetes writes it.")] = "16Gi",
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of a node that has some.")] = 1,
    max_nodes: Annotated[
        int | None, typer.Option(min=1, help="Nodes of each kind at most; unset: what all replicas need.")
    ] = None,
    cache_claim: Annotated[
        str | None, typer.Option(help="A volume claim (ReadWriteMany) for the caches; unset: each node has its own.")
    ] = None,
) -> None:
    """Print the RayService of a models.yaml, for KubeRay."""
    from app.catalog import read_catalog
    from app.errors import CatalogError
    from app.ray.manifest import Nodes, ray_service

    try:
        catalog = read_catalog(models)
    except CatalogError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    nodes = Nodes(image=image, name=name, cpus=cpus, memory=memory, gpus=gpus, most=max_nodes, cache_claim=cache_claim)
    typer.echo(ray_service(catalog, models.read_text(encoding="utf-8"), nodes), nl=False)

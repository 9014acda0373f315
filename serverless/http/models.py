"""The list of models in the shapes of OpenAI's clients and of Open WebUI, and which names of models are taken."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request

from higgs_core.repositories import names_of
from serverless.http.errors import HttpProblem
from serverless.http.guard import require_key_to_list
from serverless.payload.openai import MODEL_ALIASES, is_model_alias

router = APIRouter(prefix="/v1", dependencies=[Depends(require_key_to_list)])


@router.get("/models")
async def models(request: Request) -> dict[str, Any]:
    """The one model, with the defaults of its sampling and what is to be told of a built-in checkpoint."""
    return {"object": "list", "data": [_model(request)]}


@router.get("/models/{model:path}")
async def model(request: Request, model: str) -> dict[str, Any]:
    """The model by any name that speech accepts."""
    require_model(model, request.app.state.service.model_name)
    return _model(request)


@router.get("/audio/models")
async def audio_models(request: Request) -> dict[str, Any]:
    """The names to choose from in a client's list, as Open WebUI reads them: the model's own first."""
    names = (request.app.state.service.model_name, *MODEL_ALIASES)
    listed = [{"id": name, "name": name, "object": "model"} for name in dict.fromkeys(names)]
    return {"object": "list", "models": listed, "data": listed}


def require_model(name: object, served: str) -> None:
    """Refuse a name that is neither one of the served model's nor one of OpenAI's speech models; None is taken.

    Raises HttpProblem (model_not_found).
    """
    if name is None:
        return
    names = names_of(served)
    known = {*names, *(each.split("/")[-1] for each in names)}
    if not isinstance(name, str) or not (name in known or is_model_alias(name)):
        raise HttpProblem(
            "model_not_found", "The model of that name is not served here.", field="model", hint="See GET /v1/models."
        )


def _model(request: Request) -> dict[str, Any]:
    service, settings = request.app.state.service, request.app.state.settings
    built_in = service.built_in
    return {
        "id": service.model_name,
        "object": "model",
        "created": request.app.state.started,
        "owned_by": "organization_owner",
        "random_weights": built_in is not None and built_in.random_weights,
        "notice": built_in.description if built_in is not None else None,
        "defaults": {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
            "ras_win_len": settings.ras_win_len,
            "ras_win_max_num_repeat": settings.ras_win_max_num_repeat,
            "response_format": settings.response_format,
        },
    }

"""Operations of the OpenAI and Model Inference APIs that the local server answers with 501 and their names.

They are those of Azure's v1 API and of its dated versions (docs/azure-http.md section 4.1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maas_client.wire.operation import HttpMethod, Operation, Plane

_V1_ROWS = """
chat_completions.list GET /chat/completions
chat_completions.get GET /chat/completions/{completion}
chat_completions.update POST /chat/completions/{completion}
chat_completions.delete DELETE /chat/completions/{completion}
chat_completions.messages GET /chat/completions/{completion}/messages
completions.create POST /completions
embeddings.create POST /embeddings
responses.create POST /responses
responses.compact POST /responses/compact
responses.input_tokens POST /responses/input_tokens
responses.get GET /responses/{response}
responses.delete DELETE /responses/{response}
responses.cancel POST /responses/{response}/cancel
responses.input_items GET /responses/{response}/input_items
conversations.create POST /conversations
conversations.get GET /conversations/{conversation}
conversations.update POST /conversations/{conversation}
conversations.delete DELETE /conversations/{conversation}
conversations.create_items POST /conversations/{conversation}/items
conversations.list_items GET /conversations/{conversation}/items
conversations.get_item GET /conversations/{conversation}/items/{item}
conversations.delete_item DELETE /conversations/{conversation}/items/{item}
batches.create POST /batches
batches.list GET /batches
batches.get GET /batches/{batch}
batches.cancel POST /batches/{batch}/cancel
foundry_models.delete DELETE /models/{model}
graders.run POST /fine_tuning/alpha/graders/run
graders.validate POST /fine_tuning/alpha/graders/validate
checkpoint_permissions.create POST /fine_tuning/checkpoints/{checkpoint}/permissions
checkpoint_permissions.list GET /fine_tuning/checkpoints/{checkpoint}/permissions
checkpoint_permissions.delete DELETE /fine_tuning/checkpoints/{checkpoint}/permissions/{permission}
evals.create POST /evals
evals.list GET /evals
evals.get GET /evals/{eval}
evals.update POST /evals/{eval}
evals.delete DELETE /evals/{eval}
evals.create_run POST /evals/{eval}/runs
evals.list_runs GET /evals/{eval}/runs
evals.get_run GET /evals/{eval}/runs/{run}
evals.cancel_run POST /evals/{eval}/runs/{run}
evals.delete_run DELETE /evals/{eval}/runs/{run}
evals.list_output_items GET /evals/{eval}/runs/{run}/output_items
evals.get_output_item GET /evals/{eval}/runs/{run}/output_items/{item}
vector_stores.create POST /vector_stores
vector_stores.list GET /vector_stores
vector_stores.get GET /vector_stores/{store}
vector_stores.update POST /vector_stores/{store}
vector_stores.delete DELETE /vector_stores/{store}
vector_stores.search POST /vector_stores/{store}/search
vector_stores.create_file POST /vector_stores/{store}/files
vector_stores.list_files GET /vector_stores/{store}/files
vector_stores.get_file GET /vector_stores/{store}/files/{file}
vector_stores.update_file POST /vector_stores/{store}/files/{file}
vector_stores.delete_file DELETE /vector_stores/{store}/files/{file}
vector_stores.file_content GET /vector_stores/{store}/files/{file}/content
vector_stores.create_file_batch POST /vector_stores/{store}/file_batches
vector_stores.get_file_batch GET /vector_stores/{store}/file_batches/{batch}
vector_stores.cancel_file_batch POST /vector_stores/{store}/file_batches/{batch}/cancel
vector_stores.list_file_batch GET /vector_stores/{store}/file_batches/{batch}/files
code_containers.create POST /containers
code_containers.list GET /containers
code_containers.get GET /containers/{container}
code_containers.delete DELETE /containers/{container}
code_containers.create_file POST /containers/{container}/files
code_containers.list_files GET /containers/{container}/files
code_containers.get_file GET /containers/{container}/files/{file}
code_containers.delete_file DELETE /containers/{container}/files/{file}
code_containers.file_content GET /containers/{container}/files/{file}/content
images.generate POST /images/generations
images.edit POST /images/edits
images.vary POST /images/variations
audio.transcribe POST /audio/transcriptions
audio.translate POST /audio/translations
audio.speak POST /audio/speech
videos.create POST /videos
videos.list GET /videos
videos.get GET /videos/{video}
videos.delete DELETE /videos/{video}
videos.content GET /videos/{video}/content
videos.remix POST /videos/{video}/remix
realtime.client_secrets POST /realtime/client_secrets
realtime.sessions POST /realtime/sessions
realtime.calls POST /realtime/calls
moderations.create POST /moderations
assistants.create POST /assistants
assistants.list GET /assistants
assistants.get GET /assistants/{assistant}
assistants.update POST /assistants/{assistant}
assistants.delete DELETE /assistants/{assistant}
threads.create POST /threads
threads.create_and_run POST /threads/runs
threads.get GET /threads/{thread}
threads.update POST /threads/{thread}
threads.delete DELETE /threads/{thread}
threads.create_message POST /threads/{thread}/messages
threads.list_messages GET /threads/{thread}/messages
threads.get_message GET /threads/{thread}/messages/{message}
threads.update_message POST /threads/{thread}/messages/{message}
threads.delete_message DELETE /threads/{thread}/messages/{message}
threads.create_run POST /threads/{thread}/runs
threads.list_runs GET /threads/{thread}/runs
threads.get_run GET /threads/{thread}/runs/{run}
threads.update_run POST /threads/{thread}/runs/{run}
threads.cancel_run POST /threads/{thread}/runs/{run}/cancel
threads.submit_tool_outputs POST /threads/{thread}/runs/{run}/submit_tool_outputs
threads.list_steps GET /threads/{thread}/runs/{run}/steps
threads.get_step GET /threads/{thread}/runs/{run}/steps/{step}
"""
_DEPLOYMENT_ROWS = """
deployment_completions.create POST /deployments/{deployment}/completions
deployment_embeddings.create POST /deployments/{deployment}/embeddings
deployment_images.generate POST /deployments/{deployment}/images/generations
deployment_images.edit POST /deployments/{deployment}/images/edits
deployment_audio.transcribe POST /deployments/{deployment}/audio/transcriptions
deployment_audio.translate POST /deployments/{deployment}/audio/translations
deployment_audio.speak POST /deployments/{deployment}/audio/speech
deployment_extensions.chat POST /deployments/{deployment}/extensions/chat/completions
"""
_INFERENCE_ROWS = """
inference_embeddings.create POST /embeddings
inference_image_embeddings.create POST /images/embeddings
"""
_ENDPOINT_ROWS = """
endpoint_completions.legacy POST /completions
endpoint_completions.create POST /v1/completions
endpoint_embeddings.create POST /v1/embeddings
endpoint_responses.create POST /v1/responses
"""


def _operations(rows: str, plane: Plane, prefix: str = "") -> tuple[Operation[Any], ...]:
    """Return operations from lines with name, method and path."""
    parts = (line.split() for line in rows.strip().splitlines())
    return tuple(
        Operation(name, _method(method), plane, prefix + path, type(None))
        for name, method, path in parts
    )


def _method(name: str) -> HttpMethod:
    methods: dict[str, HttpMethod] = {"GET": "GET", "POST": "POST", "DELETE": "DELETE"}
    return methods[name]


V1_OPERATIONS = _operations(_V1_ROWS, Plane.FOUNDRY, "/v1")
"""Operations of the v1 base URL, of a resource or a project."""
DATED_OPERATIONS = (
    *(replace(op, path=op.path.removeprefix("/v1")) for op in V1_OPERATIONS),
    *_operations(_DEPLOYMENT_ROWS, Plane.FOUNDRY),
)
"""Operations of the dated base URL."""
RESOURCE_INFERENCE_OPERATIONS = _operations(_INFERENCE_ROWS, Plane.FOUNDRY, "/models")
"""Operations of Model Inference on a Foundry resource."""
ENDPOINT_OPERATIONS = (
    *_operations(_INFERENCE_ROWS, Plane.INFERENCE),
    *_operations(_ENDPOINT_ROWS, Plane.INFERENCE),
)
"""Operations of a serverless endpoint."""
ABSENT_NAMES = frozenset(
    op.name for op in (*DATED_OPERATIONS, *RESOURCE_INFERENCE_OPERATIONS, *ENDPOINT_OPERATIONS)
)

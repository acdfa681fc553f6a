"""Without a proxy: URLs from the cloud metadata document, as for a sovereign cloud."""

import sys

from azure.identity import ClientSecretCredential  # noqa: TID253 - an application's own script
from azure.mgmt.cognitiveservices import (  # noqa: TID253 - as above
    CognitiveServicesManagementClient,
)

import maas_client as maas

url, data = sys.argv[1:]
credential = ClientSecretCredential(
    "72f988bf-86f1-41af-91ab-2d7cd011db47",
    "app",
    "a-secret",
    authority=url,
    disable_instance_discovery=True,
)
where = {"subscription_id": "s", "resource_group": "r", "workspace": "w"}
with maas.Client.azureml(**where, credential=credential) as client:
    result = client.fine_tune(data, model="Phi-4-mini-instruct", deploy="ours")
    messages = [{"role": "user", "content": "what is 3 plus 3?"}]
    assert "6" in client.chat.complete("ours", messages).choices[0].message.content
management = CognitiveServicesManagementClient(
    credential, "s", base_url=url, credential_scopes=[f"{url}/.default"]
)
assert management.accounts.get("r", "contoso").kind == "AIServices"
print("answered")

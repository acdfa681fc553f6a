"""The rules of a Foundry resource: files, uploads, jobs, deployments. No HTTP.

Every account name is the same one resource here: an OpenAI-shaped request on the plain port names none.
"""

FOUNDRY_SCOPE = "foundry"
"""Where its facts stand in the store."""

"""The verbs on a Microsoft Foundry resource, and on the local server in the foundry dialect."""

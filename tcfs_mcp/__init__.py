"""The doors for assistants and scripts: server, tools, resources, prompts, `call`."""

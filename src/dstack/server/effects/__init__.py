"""What happens outside: recorded acts run at least once, host links that listen to agents, probes that may be lost."""

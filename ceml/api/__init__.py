"""How people and files ask: whatever they wish ends in one event, and nobody can tell where it came from."""

"""Middle floor: tasks and traffic. It knows no device, no network and no file."""

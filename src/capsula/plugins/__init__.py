"""The one place where names become objects: settings and the world outside become what the engine works with."""

from scoop._core.runner import Runner

class Hub(Runner):
    def serve(self) -> None: ...

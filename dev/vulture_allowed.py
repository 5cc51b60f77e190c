"""Names that only outsiders use: vulture reads this file as code that uses them, one line each with the reason."""

_check_value  # argparse calls it
find_spec  # so does the import system these, up to create_module
has_location
submodule_search_locations
create_module
s3_bucket  # read by their names (plugins.remotes), up to s3_downloads_region
s3_bucket_objects
s3_endpoint
s3_region
s3_uploads_endpoint
s3_uploads_region
s3_downloads_endpoint
s3_downloads_region
MemoryStore  # for tests, ours and those of plugin authors
read_size  # the count as others see it, for tests
lookups  # what tests ask of MemoryRemote

# Importlib and pickle read these of a module (cli.together).
_.__spec__
_.__loader__
_.__path__
_.__package__
_.__class__  # what an object is from then on (plugins.later)

__getattr__  # `capsula.monitor` is looked up by it
__dir__  # so that `dir(capsula)` shows what is imported only when it is used
has_side_effects  # IPython reads it of a transformer

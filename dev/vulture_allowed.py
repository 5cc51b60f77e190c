"""Names that only outsiders use: vulture reads this file as code that uses them, one line each with the reason."""

_check_value  # argparse calls it
find_spec  # so does the import system these, up to exec_module
has_location
submodule_search_locations
create_module
exec_module
s3_bucket  # options that are read and checked, for backends that aren't built yet, up to honeycomb_kv
s3_bucket_objects
s3_endpoint
s3_region
s3_uploads_endpoint
s3_uploads_region
s3_downloads_endpoint
s3_downloads_region
honeycomb_trace_id
honeycomb_parent_id
honeycomb_kv
EMPTY  # the digest of nothing, as authors of stores and tests know it
user_seconds  # what a run cost, for those who record runs, up to max_rss_kb
system_seconds
max_rss_kb
MemoryStore  # for tests, ours and those of plugin authors
read_size  # the count as others see it, for tests
BlobStoreContract  # for plugin authors
RemoteContract  # for plugin authors
MemoryRemote  # a fake that passes it, with what tests ask of it
lookups
ActionCacheContract  # for plugin authors
ProbeContract  # for plugin authors

# Importlib and pickle read these of a module (cli.together).
_.__spec__
_.__loader__
_.__path__
_.__package__

__getattr__  # `capsula.monitor` is looked up by it
__dir__  # so that `dir(capsula)` shows what is imported only when it is used
__wrapped__  # inspect follows it to the signature
has_side_effects  # IPython reads it of a transformer

# The settings of tcfs, from the JSON schema that its program makes of its own configuration: what the
# schema has, hosts can set.
import ./reader.nix (builtins.fromJSON (builtins.readFile ../schema.json))

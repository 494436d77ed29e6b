"""Reading what the first tcfs, the Rust program, left in a bucket.

``objects`` reads its objects, whose names are no keys of ours; ``formats`` its index entries,
manifests and encrypted chunks; ``restore`` puts the files on disk, from where a push takes them
into the fleet; ``run`` is all of it as one call.
"""

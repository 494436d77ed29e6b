# What a host's settings become on its way to the file: what its manager adds, and what cannot work.
# Used by the modules and by the fleet library alike, so that both have the same result.
let
  inherit (builtins)
    concatMap
    concatStringsSep
    elem
    filter
    head
    listToAttrs
    map
    match
    stringLength
    substring
    tail
    ;

  schema = import ./schema.nix;
  program = builtins.fromJSON (builtins.readFile ../program.json);

  startsWith = prefix: text: substring 0 (stringLength prefix) text == prefix;
  withoutTls = url: match "(s3[+])?http://.*|seaweedfs://.*" url != null;
  contains = part: text: match ".*${part}.*" text != null;
  bare = text: builtins.unsafeDiscardStringContext "${text}";

  # Set a value at a dotted place, as `schema.all` names settings.
  placed = option: value: values:
    let parts = filter builtins.isString (builtins.split "\\." option); in
    if tail parts == [ ] then values // { ${head parts} = value; }
    else values // {
      ${head parts} = (values.${head parts} or { }) // { ${head (tail parts)} = value; };
    };

  # A directory that tcfs writes its keys to; every other secret is a file that it reads.
  written = [ "deviceIdentity" ];

  secrets = filter (s: s.field.secret) schema.all;

  # The file of secrets that a value names, where it is one that a service manager can hand over.
  handedOver = values: filter
    (s: !(elem s.option written)
      && builtins.isString (schema.valueOf s values)
      && startsWith "/" (bare (schema.valueOf s values)))
    secrets;

  credential = s: "${s.section}.${s.field.key}";

  say = option: assertion: message: { inherit option assertion message; };
in
rec {
  managers = [ "home-manager" "nixos" "nix-darwin" ];
  platforms = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];
  isDarwin = platform: match ".*-darwin" platform != null;

  # Where a system service keeps its state.
  stateDir = "/var/lib/tcfs";

  # Files for LoadCredential, by name. Under NixOS the service need not be able to read them itself.
  credentials = values: listToAttrs (
    map (s: { name = credential s; value = schema.valueOf s values; }) (handedOver values)
  );

  # The values as a unit of this manager has them.
  adapted = manager: unit: values:
    if manager != "nixos" then values
    else builtins.foldl'
      (made: s: placed s.option "/run/credentials/${unit}/${credential s}" made)
      (if values.daemon.socket or null != null then values
       else placed "daemon.socket" "/run/tcfs/tcfsd.sock" values)
      (handedOver values);

  # The tables of a unit's file, and of the daemon's own.
  settingsOf = manager: unit: values: schema.settings (adapted manager unit values);
  settings = manager: settingsOf manager "tcfsd.service";

  # What cannot work, as {option, assertion, message}; `values` pass `schema.problems`.
  #   host = { manager; platform; user; mounts; }
  assertions = host: values:
    let
      get = name: values.${name} or null;
      syncRoot = if get "syncRoot" == null then "" else bare (get "syncRoot");
      endpoint = bare (values.storage.endpoint or "");
      inHome = startsWith "/home/" syncRoot || startsWith "/root/" syncRoot;
      system = host.manager != "home-manager";
      url = get "natsUrl";
      noUrl = url == null || url == "";
    in
    concatMap
      (s:
        let
          value = schema.valueOf s values;
          path = bare value;
        in
        if !(builtins.isString value) then [ ]
        else [
          (say s.option (!(startsWith builtins.storeDir path))
            ("must not lie in the Nix store, which everyone on the machine can read. Give the path of a file "
             + "outside it as text, such as config.sops.secrets.<name>.path or config.age.secrets.<name>.path"))
          (say s.option (!(contains "[$]" path))
            ("holds a shell variable (${path}), which tcfs does not expand. Where agenix's Home Manager module "
             + "made it, set age.secretsDir to an absolute path"))
          (say s.option (!(system && startsWith "~" path))
            "must be absolute for a system service, which has no home directory")
        ])
      secrets
    ++ [
      (say "platform" (elem host.platform platforms)
        "must be one of: ${concatStringsSep ", " platforms}")
      (say "manager" (host.manager != "nixos" || !(isDarwin host.platform))
        "must not be nixos on ${host.platform}: use nix-darwin or home-manager")
      (say "manager" (host.manager != "nix-darwin" || isDarwin host.platform)
        "must not be nix-darwin on ${host.platform}: use nixos or home-manager")
      (say "syncRoot" (!(system && startsWith "~" syncRoot))
        "must be absolute for a system service, which has no home directory")
      (say "syncRoot" (!(host.manager == "nixos" && inHome && host.user == "tcfs"))
        "lies in someone's home, where the user tcfs may not read: set services.tcfsd.user to its owner")
      (say "storage.endpoint" (!(values.storage.enforceTls or false && withoutTls endpoint))
        "has no TLS, and storage.enforceTls refuses that")
      (say "storage.clientCertPath" (!((values.storage.clientCertPath or null) != null && withoutTls endpoint))
        "means nothing without TLS: write https:// in storage.endpoint")
      (say "natsTls" (!((get "natsTls") == true && noUrl)) "means nothing without natsUrl")
      (say "mounts" (host.mounts == { } || program.mount)
        "cannot work yet: this version of tcfs has no command that mounts. Leave it out; pull works without")
    ];

  # What works, and is perhaps not meant.
  warnings = values:
    (if values.syncRoot or null == null then
      [ "syncRoot is not set: the service has no directory to keep in sync" ] else [ ])
    ++ (if values.syncGitDirs or false && values.gitSyncMode or "bundle" == "raw" then
      [ "gitSyncMode is raw: a repository that changes while it is copied may arrive torn; bundle is safe" ] else [ ]);

  failed = list: map (a: { inherit (a) option message; }) (filter (a: !a.assertion) list);

}

# One definition of a fleet -> each host's settings and module.
#
#   mkFleet {
#     defaults = { storage.endpoint = "s3://fleet"; };
#     hosts.yoga = { platform = "x86_64-linux"; conflictMode = "interactive"; };
#   }
#
# A host is a set, a file that holds one, or a function from the defaults to one. It is merged over
# the defaults: sets key by key, and anything else (lists too) as the host has it. To add to a list of
# the defaults, be a function:
#
#   hosts.yoga = defaults: { excludePatterns = defaults.excludePatterns ++ [ "target/" ]; … };
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    deepSeq
    elem
    filter
    isAttrs
    isFunction
    listToAttrs
    map
    mapAttrs
    match
    pathExists
    readDir
    removeAttrs
    typeOf
    ;

  schema = import ./schema.nix;
  host = import ./host.nix;
  text = import ./text.nix;

  # What a host can say besides settings.
  facts = {
    platform = "one of: ${concatStringsSep ", " host.platforms}";
    manager = "one of: ${concatStringsSep ", " host.managers}";
    user = "the name of the user whose files these are";
    homeDirectory = "that user's home directory";
    stateVersion = "the state version of NixOS, Home Manager or nix-darwin";
    enable = "whether tcfs is set up here at all";
    mcp = "{ enable = true; } for assistants";
    mounts = "what is mounted where";
    modules = "further modules of this host";
  };

  merge = a: b: a // mapAttrs
    (name: value: if isAttrs value && isAttrs (a.${name} or null) then merge a.${name} value else value)
    b;

  load = defaults: given:
    let found = if elem (typeOf given) [ "path" "string" ] then import given else given; in
    if isFunction found then found defaults else found;

  wrongFact = name: value:
    if name == "platform" && !(elem value host.platforms) then facts.platform + hintOf value host.platforms
    else if name == "manager" && !(elem value host.managers) then facts.manager + hintOf value host.managers
    else if elem name [ "user" "homeDirectory" "stateVersion" ] && !(builtins.isString value) && name != "stateVersion" then "text"
    else if name == "enable" && !(builtins.isBool value) then "true or false"
    else if elem name [ "mcp" "mounts" ] && !(isAttrs value) then "a set"
    else if name == "modules" && !(builtins.isList value) then "a list"
    else null;
  hintOf = value: choices: if builtins.isString value then text.hint value choices else "";

  mkHost = defaults: name: given:
    let
      own = load defaults given;
      merged = merge defaults own;
      named = if merged.deviceName or "" == "" then merged // { deviceName = name; } else merged;
      platform = merged.platform or "";
      manager = merged.manager or "home-manager";
      values = removeAttrs named (attrNames facts);
      mounts = merged.mounts or { };
      user = merged.user or (if manager == "nixos" then "tcfs" else "");

      # A home directory is where its platform has it, unless the host says so.
      homeDirectory = merged.homeDirectory or (
        if user == "" || user == "tcfs" then ""
        else (if host.isDarwin platform then "/Users/" else "/home/") + user
      );

      ofFacts = concatMap
        (fact:
          let wrong = wrongFact fact merged.${fact}; in
          if merged ? ${fact} && wrong != null then [{ option = fact; message = "must be ${wrong}"; }] else [ ])
        (attrNames facts);
      lacking = if merged ? platform then [ ] else
        [{ option = "platform"; message = "is not set: ${facts.platform}"; }];
      ofValues = schema.problems (attrNames facts) values;
      wrong = lacking ++ ofFacts ++ ofValues;
      problems =
        if wrong != [ ] then wrong
        else host.failed (host.assertions { inherit manager platform user mounts; } values);
      settings = host.settings manager values;
      valid =
        if problems == [ ] then true
        else throw "host ${name}: ${concatStringsSep "; " (map (p: "${p.option}: ${p.message}") problems)}";

      root = if manager == "home-manager" then [ "programs" "tcfs" ] else [ "services" "tcfsd" ];
      options = values // { enable = merged.enable or true; }
        // (if mounts == { } then { } else { inherit mounts; })
        // (if merged ? mcp && manager == "home-manager" then { inherit (merged) mcp; } else { })
        // (if manager != "home-manager" && merged ? user then { inherit (merged) user; } else { });
      module = {
        nixos = ../modules/tcfs-daemon.nix;
        nix-darwin = ../modules/tcfs-darwin.nix;
        home-manager = ../modules/tcfs-user.nix;
      }.${manager};
    in
    {
      inherit name platform manager user homeDirectory problems;
      enable = merged.enable or true;
      warnings = if problems == [ ] && merged.enable or true then host.warnings values else [ ];
      # Complete with defaults, as the TOML file has them; null where nothing is set.
      settings = assert valid; settings;
      toml = assert valid; text.toToml settings;
      values = assert valid; values;
      module = assert valid; {
        _file = "host ${name} of the fleet";
        imports = [ module ] ++ merged.modules or [ ];
        config = if manager == "home-manager" then { programs.tcfs = options; } else { services.tcfsd = options; };
      };
      stateVersion = merged.stateVersion or null;
      option = concatStringsSep "." root;
    };

  # Whole configurations of hosts, from the inputs of a flake that are at hand.
  configurations = inputs: hosts: {
    nixos = onlyOf "nixos" hosts (h: inputs.nixpkgs.lib.nixosSystem {
      system = h.platform;
      modules = [ h.module { networking.hostName = inputs.nixpkgs.lib.mkDefault h.name; } ] ++ version h;
    });
    nix-darwin = onlyOf "nix-darwin" hosts (h: inputs.nix-darwin.lib.darwinSystem {
      system = h.platform;
      modules = [ h.module { networking.hostName = inputs.nixpkgs.lib.mkDefault h.name; } ] ++ version h;
    });
    home-manager = onlyOf "home-manager" hosts (h: inputs.home-manager.lib.homeManagerConfiguration {
      pkgs = inputs.nixpkgs.legacyPackages.${h.platform};
      modules = [
        h.module
        {
          home = {
            username = need h "user" h.user;
            homeDirectory = need h "homeDirectory" h.homeDirectory;
            stateVersion = need h "stateVersion" h.stateVersion;
          };
        }
      ];
    });
  };
  version = h: if h.stateVersion == null then [ ] else [{ system.stateVersion = h.stateVersion; }];
  need = h: what: value:
    if value == "" || value == null then throw "host ${h.name}: ${what} is not set: ${facts.${what}}" else value;
  onlyOf = manager: hosts: make: listToAttrs (
    map (name: { inherit name; value = make hosts.${name}; })
      (filter (name: hosts.${name}.manager == manager) (attrNames hosts))
  );
in
rec {
  # The hosts of a folder with one file for each.
  hostsIn = folder: listToAttrs (concatMap
    (file:
      let found = match "(.*)\\.nix" file; in
      if found == null then [ ]
      else [{ name = builtins.head found; value = folder + "/${file}"; }])
    (attrNames (if pathExists folder then readDir folder else { })));

  mkFleet = { defaults ? { }, hosts, inputs ? { } }:
    let
      made = mapAttrs (mkHost defaults) hosts;
      modulesOf = manager: onlyOf manager made (h: h.module);
      systems = configurations inputs made;
      # What has to be evaluated for a whole host: with its inputs at hand its system and all
      # assertions, and without them its settings and module.
      forced = name:
        let
          h = made.${name};
          whole =
            if h.manager == "home-manager" && inputs ? home-manager then
              systems.home-manager.${name}.activationPackage.drvPath
            else if h.manager == "nixos" && inputs ? nixpkgs then
              systems.nixos.${name}.config.system.build.toplevel.drvPath
            else if h.manager == "nix-darwin" && inputs ? nix-darwin then
              systems.nix-darwin.${name}.system.drvPath
            else "";
        in
        deepSeq [ h.settings h.toml h.module.config whole ] true;
    in
    {
      hosts = made;

      # One for each host: true, or an error that says what is wrong with it.
      checks = listToAttrs (map (name: { inherit name; value = forced name; }) (attrNames made));

      nixosModules = modulesOf "nixos";
      darwinModules = modulesOf "nix-darwin";
      homeModules = modulesOf "home-manager";

      nixosConfigurations = systems.nixos;
      darwinConfigurations = systems.nix-darwin;
      homeConfigurations = systems.home-manager;

      # For a flake's `checks`: one derivation for each host, on its platform.
      flakeChecks = listToAttrs (map
        (platform: {
          name = platform;
          value = listToAttrs (map
            (name: {
              inherit name;
              value = builtins.seq (forced name)
                (inputs.nixpkgs.legacyPackages.${platform}.runCommand "tcfs-fleet-${name}" { } "touch $out");
            })
            (filter (name: made.${name}.platform == platform) (attrNames made)));
        })
        host.platforms);

      # The same as data, for programs: what is wrong is told for every host, not thrown.
      report = mapAttrs
        (_: h: {
          inherit (h) platform manager user homeDirectory enable problems warnings option;
          settings = if h.problems == [ ] then h.settings else null;
        })
        made;
    };
}

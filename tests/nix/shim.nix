# A shim: the few functions of nixpkgs' lib that the modules use, and as much of its module system as
# shows what they declare, check and merge. It stands in where nixpkgs is not at hand; the real one is
# tested where TCFS_NIX_INPUTS names it.
let
  inherit (builtins)
    all attrNames attrValues concatLists concatMap elem elemAt filter foldl' functionArgs head
    isAttrs isFunction isList isString length listToAttrs map mapAttrs substring stringLength toJSON typeOf;

  show = builtins.concatStringsSep ".";
  isType = type: v: isAttrs v && v._type or "" == type;

  # Conditions stay on the leaves, so that which names there are never depends on one.
  pushDown = v:
    if isType "merge" v then concatMap pushDown v.contents
    else if isType "if" v then
      map (mapAttrs (_: content: { _type = "if"; inherit (v) condition; inherit content; })) (pushDown v.content)
    else [ v ];
  discharge = v:
    if isType "merge" v then concatMap discharge v.contents
    else if isType "if" v then (if v.condition then discharge v.content else [ ])
    else [ v ];

  mergeAny = path: values:
    if all isAttrs values then
      builtins.zipAttrsWith (name: found: mergeAny (path ++ [ name ]) (concatMap discharge found)) values
    else if all isList values then concatLists values
    else if all (v: v == head values) values then head values
    else throw "The option `${show path}' has conflicting definition values";

  one = path: values:
    if all (v: v == head values) values then head values
    else throw "The option `${show path}' has conflicting definition values";

  mkType = description: check: { inherit description check; merge = one; };
  types = rec {
    raw = { description = "any value"; check = _: true; merge = one; };
    anything = { description = "anything"; check = _: true; merge = mergeAny; };
    bool = mkType "boolean" builtins.isBool;
    int = mkType "integer" builtins.isInt;
    number = mkType "number" (v: builtins.isInt v || builtins.isFloat v);
    str = mkType "string" isString;
    package = mkType "package" (v: isAttrs v || isString v);
    enum = values: mkType "one of ${toJSON values}" (v: elem v values);
    addCheck = type: check: type // { check = v: type.check v && check v; };
    nullOr = type: type // {
      description = "null or ${type.description}";
      check = v: v == null || type.check v;
      merge = path: values: if all (v: v == null) values then null else type.merge path values;
    };
    listOf = type: {
      description = "list of ${type.description}";
      check = v: isList v && all type.check v;
      merge = path: values: map (v: leaf path type (discharge v)) (concatLists values);
    };
    attrsOf = type: {
      description = "attribute set of ${type.description}";
      check = isAttrs;
      merge = path: values: builtins.zipAttrsWith
        (name: found: leaf (path ++ [ name ]) type (concatMap discharge found))
        values;
    };
    submodule = module: {
      description = "submodule";
      check = isAttrs;
      merge = path: values: configOf path module.options values;
    };
  };

  leaf = path: type: values:
    if all type.check values then type.merge path values
    else throw "A definition for option `${show path}' is not of type `${type.description}'.";

  isOption = isType "option";

  configOf = path: options: definitions:
    let
      defined = builtins.zipAttrsWith (_: found: found) (concatMap pushDown definitions);
      unknown = filter (name: !(options ? ${name})) (attrNames defined);
      valueOf = name: option:
        let
          here = path ++ [ name ];
          found = defined.${name} or [ ];
          values = concatMap discharge found;
        in
        if !(isOption option) then configOf here option found
        else if values != [ ] then leaf here option.type values
        else if option ? default then option.default
        else throw "The option `${show here}' was accessed but has no value defined.";
    in
    if unknown != [ ] then throw "The option `${show (path ++ [ (head unknown) ])}' does not exist."
    else mapAttrs valueOf options;

  mergeOptions = builtins.zipAttrsWith (_: found:
    if length found == 1 then head found
    else if builtins.any isOption found then throw "an option is declared twice"
    else mergeOptions found);
in
rec {
  inherit types;
  inherit (builtins) concatStringsSep filter listToAttrs;
  mkOption = option: option // { _type = "option"; };
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  genAttrs = names: make: listToAttrs (map (name: { inherit name; value = make name; }) names);
  nameValuePair = name: value: { inherit name value; };
  optionalAttrs = condition: found: if condition then found else { };
  mapAttrsToList = make: found: map (name: make name found.${name}) (attrNames found);
  mapAttrs' = make: found: listToAttrs (mapAttrsToList make found);
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  removePrefix = prefix: text:
    if hasPrefix prefix text then substring (stringLength prefix) (-1) text else text;
  escapeShellArg = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";

  evalModules = { modules, pkgs }:
    let
      args = { inherit config options pkgs; lib = import ./shim.nix; };
      load = module:
        let
          found = if typeOf module == "path" then import module else module;
          made = if isFunction found then found args else found;
          rest = removeAttrs made [ "imports" "options" "config" "_file" ];
        in
        [{ options = made.options or { }; config = made.config or rest; }] ++ concatMap load (made.imports or [ ]);
      loaded = concatMap load modules;
      options = mergeOptions (map (m: m.options) loaded);
      config = configOf [ ] options (map (m: m.config) loaded);
    in
    { inherit config options; };
}

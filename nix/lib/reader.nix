# What a JSON schema says of settings: options, checks, and the tables of a TOML file.
# Nothing here names a setting of tcfs but the section that stands at the top.
#
# Names are camelCase. The settings of the section `sync` stand at the top, as RFC 0001 has them
# (deviceName, conflictMode); those of other sections stand below the section's name
# (storage.endpoint).
schema:
let
  inherit (builtins)
    all
    any
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    filter
    fromJSON
    isAttrs
    isBool
    isFloat
    isInt
    isList
    isString
    listToAttrs
    map
    mapAttrs
    match
    removeAttrs
    stringLength
    substring
    toJSON
    toString
    typeOf
    ;

  text = import ./text.nix;
  hoisted = "sync";

  # -- reading the schema ----------------------------------------------------------------------

  deref = node:
    if node ? "$ref" then
      deref (schema."$defs".${substring 8 (-1) node."$ref"} // removeAttrs node [ "$ref" ])
    else if node ? allOf && builtins.length node.allOf == 1 then
      deref (builtins.head node.allOf // removeAttrs node [ "allOf" ])
    else node;

  bounds = [ "minimum" "maximum" "exclusiveMinimum" "exclusiveMaximum" "minLength" "maxLength" "pattern" "x-form" ];
  keep = names: node: listToAttrs (
    concatMap (name: if node ? ${name} then [{ inherit name; value = node.${name}; }] else [ ]) names
  );

  # What a place of the schema takes, as {kind, ...}. `any` is what this reader does not know: it
  # is taken unchecked here, and a test of the project sees that there is none.
  kindOf = given:
    let
      node = deref given;
      type = node.type or "";
      choices = node.anyOf or node.oneOf or [ ];
      own = keep bounds node;
    in
    if node ? const then { kind = "enum"; values = [ node.const ]; }
    else if node ? enum then { kind = "enum"; values = node.enum; }
    else if choices != [ ] then
      let
        kinds = map (choice: kindOf (own // deref choice)) choices;
        real = filter (k: k.kind != "null") kinds;
        one = if builtins.length real == 1 then builtins.head real else { kind = "union"; choices = real; };
      in
      if builtins.length real == builtins.length kinds then one else { kind = "nullable"; of = one; }
    else if type == "null" then { kind = "null"; }
    else if type == "boolean" then { kind = "bool"; }
    else if type == "integer" then { kind = "int"; } // own
    else if type == "number" then { kind = "number"; } // own
    else if type == "string" && node.format or "" == "path" then { kind = "path"; }
    else if type == "string" then { kind = "string"; } // own
    else if type == "array" then { kind = "list"; of = kindOf (node.items or { }); }
    else if type == "object" && node ? properties then { kind = "object"; fields = fieldsOf node.properties; }
    else if type == "object" then
      { kind = "attrs"; of = kindOf (if isAttrs (node.additionalProperties or null) then node.additionalProperties else { }); }
    else { kind = "any"; };

  # The settings of an object by camelCase name.
  fieldsOf = properties: listToAttrs (map
    (key:
      let node = deref properties.${key}; in
      {
        name = text.camel key;
        value = {
          inherit key;
          type = kindOf node;
          secret = node."x-secret" or false;
          description = node.description or "";
        } // (if node ? default then { inherit (node) default; } else { });
      })
    (attrNames properties));

  sections = mapAttrs
    (_: node: { description = (deref node).description or ""; fields = fieldsOf (deref node).properties; })
    schema.properties;

  # The other sections by their names in Nix.
  nested = listToAttrs (map (name: { name = text.camel name; value = sections.${name}; })
    (filter (name: name != hoisted) (attrNames sections)));
  top = sections.${hoisted}.fields;
  clashes = filter (name: nested ? ${name}) (attrNames top);

  # -- checking a value ------------------------------------------------------------------------

  describe = type: {
    nullable = "null or ${describe type.of}";
    enum = "one of: ${concatStringsSep ", " (map (v: if isString v then v else toJSON v) type.values)}";
    bool = "true or false";
    int = "a whole number${range type}";
    number = "a number${range type}";
    path = "an absolute path as text, or one that begins with ~/";
    string = type."x-form" or (if type ? pattern then "text that matches ${type.pattern}" else "text");
    list = "a list, each entry ${describe type.of}";
    attrs = "a set, each value ${describe type.of}";
    object = "a set of settings";
    union = concatStringsSep ", or " (map describe type.choices);
    null = "null";
    any = "any value";
  }.${type.kind};

  range = type: concatStringsSep "" [
    (if type ? minimum then ", at least ${number type.minimum}" else "")
    (if type ? exclusiveMinimum then ", more than ${number type.exclusiveMinimum}" else "")
    (if type ? maximum then ", at most ${number type.maximum}" else "")
    (if type ? exclusiveMaximum then ", less than ${number type.exclusiveMaximum}" else "")
  ];
  number = n: if isFloat n && builtins.floor n == n then toString (builtins.floor n) else toJSON n;

  inRange = type: v:
    (!(type ? minimum) || v >= type.minimum)
    && (!(type ? maximum) || v <= type.maximum)
    && (!(type ? exclusiveMinimum) || v > type.exclusiveMinimum)
    && (!(type ? exclusiveMaximum) || v < type.exclusiveMaximum);

  # The schema's patterns are anchored; Nix matches the whole text anyway.
  anchored = pattern:
    let inner = match "\\^(.*)\\$" pattern; in
    if inner == null then ".*(${pattern}).*" else builtins.head inner;

  # A secret's path often depends on another package: its text must stay comparable.
  bare = builtins.unsafeDiscardStringContext;

  accepts = type: v: {
    nullable = v == null || accepts type.of v;
    enum = elem v type.values;
    bool = isBool v;
    int = isInt v && inRange type v;
    # Older versions of Nix write six digits of a number: one that would not arrive is refused.
    number = (isInt v || isFloat v && fromJSON (toJSON v) == v) && inRange type v;
    path = isString v && match "/.*|~|~/.*" (bare v) != null;
    string = isString v
      && (!(type ? minLength) || stringLength v >= type.minLength)
      && (!(type ? maxLength) || stringLength v <= type.maxLength)
      && (!(type ? pattern) || match (anchored type.pattern) (bare v) != null);
    list = isList v && all (accepts type.of) v;
    attrs = isAttrs v && all (accepts type.of) (attrValues v);
    object = isAttrs v && problemsIn "" type.fields v == [ ];
    union = any (choice: accepts choice v) type.choices;
    null = v == null;
    any = true;
  }.${type.kind};

  suggestion = type: v:
    let
      real = if type.kind == "nullable" then type.of else type;
    in
    if real.kind == "enum" && isString v then text.hint v (filter isString real.values)
    else if isString v && elem v [ "true" "false" ] && real.kind == "bool" then "; leave out the quotes"
    else if isString v && match "[0-9.]+" v != null && elem real.kind [ "int" "number" ] then "; leave out the quotes"
    else if typeOf v == "path" && real.kind == "path" then
      "; write it as text in quotes: a path without quotes is copied to the Nix store"
    else if isString v && real.kind == "path" && match ".*[$].*" (bare v) != null then
      "; it holds a shell variable, which tcfs does not expand (agenix: set age.secretsDir)"
    else if isFloat v && real.kind == "number" && inRange real v then "; this Nix knows six digits of a number"
    else if real.kind == "list" && !(isList v) then "; put it in [ ]"
    else "";

  # What is wrong with the values of some fields: a list of {option, message}. Values are not
  # repeated, since they may be what they should not be: secrets.
  problemsIn = prefix: fields: values: concatMap
    (name:
      let
        field = fields.${name} or null;
        v = values.${name};
        option = prefix + name;
        real = if field.type.kind == "nullable" then field.type.of else field.type;
      in
      if field == null then
        [{ inherit option; message = "there is no such setting${text.hint name (attrNames fields)}"; }]
      else if real.kind == "object" && isAttrs v then problemsIn "${option}." real.fields v
      else if accepts field.type v then [ ]
      else [{ inherit option; message = "must be ${describe field.type}${suggestion field.type v}"; }])
    (attrNames values);

  # -- from names in Nix to the file -----------------------------------------------------------

  convert = type: v:
    if type.kind == "nullable" then (if v == null then null else convert type.of v)
    else if type.kind == "list" && isList v then map (convert type.of) v
    else if type.kind == "attrs" && isAttrs v then mapAttrs (_: convert type.of) v
    else if type.kind == "object" && isAttrs v then tableOf type.fields v
    else v;

  # A table of the file: what was set, else the default. One without either is left out.
  tableOf = fields: values: listToAttrs (concatMap
    (name:
      let field = fields.${name}; in
      if values ? ${name} then [{ name = field.key; value = convert field.type values.${name}; }]
      else if field ? default then [{ name = field.key; value = field.default; }]
      else [ ])
    (attrNames fields));

  # -- options for a module system -------------------------------------------------------------

  optionType = lib: type:
    let
      t = lib.types;
      checked = base: lib.types.addCheck base (accepts type) // { description = describe type; };
    in
    {
      nullable = t.nullOr (optionType lib type.of);
      enum = t.enum type.values;
      bool = t.bool;
      int = checked t.int;
      number = checked t.number;
      path = checked t.str;
      string = if type ? pattern || type ? minLength || type ? maxLength then checked t.str else t.str;
      list = t.listOf (optionType lib type.of);
      attrs = t.attrsOf (optionType lib type.of);
      object = t.submodule { options = optionsOf lib type.fields; };
      union = checked t.raw;
      null = checked t.raw;
      any = t.raw;
    }.${type.kind};

  optionsOf = lib: fields: mapAttrs
    (_: field: lib.mkOption ({
      type = optionType lib field.type;
      inherit (field) description;
    } // (if field ? default then { inherit (field) default; } else { })))
    fields;

in
assert clashes == [ ] || throw "settings of tcfs have one name twice: ${concatStringsSep ", " clashes}";
{
  inherit accepts describe;

  # Names that a host may set besides those that the modules add.
  names = attrNames top ++ attrNames nested;

  # Every setting as {section, option, field}; `option` is its name in Nix.
  all = concatLists (attrValues (mapAttrs
    (section: found: map
      (name: {
        inherit section;
        option = if section == hoisted then name else "${text.camel section}.${name}";
        field = found.fields.${name};
      })
      (attrNames found.fields))
    sections));

  # The value of a setting, as `all` lists them, in values by names in Nix; null if not set.
  valueOf = setting: values:
    let
      name = text.camel setting.field.key;
      holder = if setting.section == hoisted then values else values.${text.camel setting.section} or { };
    in
    holder.${name} or null;

  # Options for every setting, for any `lib` that knows types.
  options = lib: optionsOf lib top // mapAttrs (_: section: optionsOf lib section.fields) nested;

  # What is wrong with values by names in Nix. `others` are names that are no settings.
  problems = others: values:
    let
      known = top // mapAttrs (_: section: { type = { kind = "object"; inherit (section) fields; }; }) nested
        // listToAttrs (map (name: { inherit name; value = { type = { kind = "any"; }; }; }) others);
    in
    problemsIn "" known values;

  # Values by names in Nix -> the tables of the TOML file, complete with defaults.
  settings = values: mapAttrs
    (section: found: tableOf found.fields (
      if section == hoisted then builtins.intersectAttrs found.fields values else values.${text.camel section} or { }
    ))
    sections;
}

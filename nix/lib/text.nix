# Text without nixpkgs: names, suggestions, and TOML.
let
  inherit (builtins)
    attrNames
    concatStringsSep
    elemAt
    filter
    foldl'
    genList
    head
    isAttrs
    isBool
    isList
    isString
    length
    lessThan
    map
    match
    replaceStrings
    sort
    split
    stringLength
    substring
    tail
    toJSON
    ;

  lower = [ "a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n" "o" "p" "q" "r" "s" "t" "u" "v" "w" "x" "y" "z" ];
  upper = [ "A" "B" "C" "D" "E" "F" "G" "H" "I" "J" "K" "L" "M" "N" "O" "P" "Q" "R" "S" "T" "U" "V" "W" "X" "Y" "Z" ];

  capital = word: replaceStrings lower upper (substring 0 1 word) + substring 1 (-1) word;
  words = text: filter isString (split "_" text);

  # A name as it is compared: `conflict_mode` and `conflictmode` mean conflictMode.
  plain = text: replaceStrings (upper ++ [ "_" "-" ]) (lower ++ [ "" "" ]) text;

  begins = whole: part: substring 0 (stringLength part) whole == part;

  least = a: b: if a < b then a else b;

  # Levenshtein's distance, row by row.
  distance = a: b:
    let
      char = text: n: substring n 1 text;
      columns = stringLength b;
      nextRow = row: i:
        foldl'
          (made: j:
            let
              cost = if char a i == char b j then 0 else 1;
              left = elemAt made j;
            in
            made ++ [ (least (least (elemAt row (j + 1) + 1) (left + 1)) (elemAt row j + cost)) ])
          [ (i + 1) ]
          (genList (j: j) columns);
      last = foldl' nextRow (genList (j: j) (columns + 1)) (genList (i: i) (stringLength a));
    in
    elemAt last columns;
in
rec {
  inherit distance;

  # conflict_mode -> conflictMode
  camel = text:
    let parts = words text; in
    head parts + concatStringsSep "" (map capital (tail parts));

  # The choice nearest to a word, or null where none is near.
  nearest = word: choices:
    let
      score = a: b: if a != "" && b != "" && (begins a b || begins b a) then 1 else distance a b;
      scored = map (choice: { inherit choice; score = score (plain word) (plain choice); }) choices;
      sorted = sort (a: b: a.score < b.score || (a.score == b.score && a.choice < b.choice)) scored;
      best = head sorted;
      allowed = if stringLength word < 4 then 1 else stringLength word / 3 + 1;
    in
    if sorted == [ ] || best.score > allowed then null else best.choice;

  # "; did you mean ...?", or nothing.
  hint = word: choices:
    let near = nearest word choices; in
    if near == null then "" else "; did you mean ${near}?";

  # The text of a TOML file for tables of settings. TOML has no null: such settings are left out.
  toToml = settings:
    concatStringsSep "\n" (
      map
        (section: "[${tomlKey section}]\n" + concatStringsSep "" (
          map (key: "${tomlKey key} = ${tomlValue settings.${section}.${key}}\n")
            (filter (key: settings.${section}.${key} != null) (attrNames settings.${section}))
        ))
        (attrNames settings)
    );

  tomlKey = key: if match "[A-Za-z0-9_-]+" key != null then key else tomlString key;

  # JSON escapes a string as TOML does, but for DEL.
  tomlString = text: replaceStrings [ (builtins.fromJSON ''"\u007f"'') ] [ "\\u007f" ] (toJSON text);

  tomlValue = value:
    if isString value then tomlString value
    else if isBool value then (if value then "true" else "false")
    else if isList value then "[${concatStringsSep ", " (map tomlValue value)}]"
    else if isAttrs value then
      "{ ${concatStringsSep ", " (
        map (key: "${tomlKey key} = ${tomlValue value.${key}}")
          (filter (key: value.${key} != null) (sort lessThan (attrNames value)))
      )} }"
    else toJSON value;
}

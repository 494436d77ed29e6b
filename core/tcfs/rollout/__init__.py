"""The fleet as it is declared: reading its definition with Nix, comparing, and carrying it out.

A definition is a folder with ``fleet.nix`` (what ``mkFleet`` takes), usually a file for each host
in ``hosts/``, and a flake that makes configurations of them.
"""

# Builds the `aspen` command, runs the checks and gives a development shell.
#
# There is no flake.lock yet: it can only be written with network access to the flake registry.
# `nix flake lock` makes one; until then nix resolves the branch named below anew.
{
  description = "Aspen: a peer-to-peer, strongly consistent key-value store";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      eachSystem = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});

      manifest = builtins.fromTOML (builtins.readFile ./Cargo.toml);

      # One derivation; the checks are it with another phase.
      aspen =
        pkgs:
        pkgs.rustPlatform.buildRustPackage {
          pname = "aspen";
          version = manifest.workspace.package.version;
          src = nixpkgs.lib.cleanSource ./.;
          cargoLock.lockFile = ./Cargo.lock;
          # The tests are the check below, so that the command alone builds quickly.
          doCheck = false;
          meta = {
            description = manifest.workspace.package.description;
            license = with nixpkgs.lib.licenses; [
              mit
              asl20
            ];
            mainProgram = "aspen";
          };
        };
    in
    {
      packages = eachSystem (pkgs: {
        default = aspen pkgs;
      });

      checks = eachSystem (pkgs: {
        command = aspen pkgs;
        tests = (aspen pkgs).overrideAttrs {
          pname = "aspen-tests";
          doCheck = true;
          checkType = "debug";
          nativeCheckInputs = [ pkgs.curl ];
        };
        lint = (aspen pkgs).overrideAttrs (old: {
          pname = "aspen-lint";
          nativeBuildInputs = old.nativeBuildInputs ++ [
            pkgs.clippy
            pkgs.rustfmt
          ];
          buildPhase = ''
            cargo fmt --all --check
            cargo lint
          '';
          installPhase = "touch $out";
        });
      });

      devShells = eachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (aspen pkgs) ];
          packages = with pkgs; [
            clippy
            rustfmt
            rust-analyzer
            cargo-nextest
            cargo-fuzz
            curl
            jq
          ];
        };
      });

      formatter = eachSystem (pkgs: pkgs.nixfmt-rfc-style);
    };
}

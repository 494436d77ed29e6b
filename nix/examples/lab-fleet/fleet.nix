# The lab fleet of RFC 0001. `tcfs fleet check` reads this file, and flake.nix hands it to mkFleet.
{ hostsIn }:
{
  defaults = {
    user = "xoxd";
    stateVersion = "25.11";
    storage = {
      endpoint = "http://dees-appu-bearts:8333";
      bucket = "tcfs";
    };
    natsUrl = "nats://nats.tcfs.svc.cluster.local:4222";
    excludePatterns = [ "*.swp" "*.swo" ".direnv" ];
    syncRoot = "~/git";
  };

  hosts = hostsIn ./hosts;
}

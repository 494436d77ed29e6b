# The fleet: what all hosts share, and a file for each of them in hosts/.
# Check it with `tcfs fleet check`, add a host with `tcfs fleet render NAME platform=… `.
{ hostsIn }:
{
  defaults = {
    # Whose files these are, where Home Manager sets tcfs up.
    user = "me";
    stateVersion = "25.11";

    # Where the fleet's data lives.
    storage.endpoint = "s3://fleet";

    # What is kept the same everywhere.
    syncRoot = "~/shared";
  };

  hosts = hostsIn ./hosts;
}

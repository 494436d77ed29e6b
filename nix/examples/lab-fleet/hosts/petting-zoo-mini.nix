{
  platform = "aarch64-darwin";
  conflictMode = "auto";
  syncGitDirs = false;
}

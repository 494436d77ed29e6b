{
  platform = "x86_64-linux";
  conflictMode = "interactive";
  syncGitDirs = true;
  gitSyncMode = "bundle";
}

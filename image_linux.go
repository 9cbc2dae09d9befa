package usher

// ownImage leads to the file that this process runs, whatever path leads to by now.
func ownImage(string) string { return "/proc/self/exe" }

// Preloaded into a script that launch.js runs as a child: when the launcher is gone without a word (SIGKILL), the script
// is told to end as if by SIGTERM, so that it takes its own processes with it.
process.once("disconnect", () => process.kill(process.pid, "SIGTERM"))
process.channel?.unref() // by itself the channel keeps nothing alive

// The peers are packages of bench/package.json, so that only those who measure install them.
import { spawnSync } from "node:child_process"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { BenchFailed } from "../failure.ts"

const BENCH = join(import.meta.dirname, "..")

/** Brings the peers by npm, once. ggml's ready-built binaries are those of the root's packages, the same release. */
export const installPeers = (say: (line: string) => void): void => {
  if (existsSync(join(BENCH, "node_modules/node-llama-cpp/package.json"))) return
  say("bringing node-llama-cpp into bench/ (60 MB)")
  // The optional packages are binaries for every platform, GPUs too; `--no-save` keeps to the lockfile and leaves it alone.
  const args = ["install", "--prefix", BENCH, "--no-save", "--omit=optional", "--loglevel=error"]
  const { status } = spawnSync("npm", args, { stdio: ["ignore", "ignore", "inherit"] })
  if (status !== 0)
    throw new BenchFailed(
      "node-llama-cpp could not be brought. Look at npm's message above, then try\n  npm install --prefix bench --no-save --omit=optional",
    )
}

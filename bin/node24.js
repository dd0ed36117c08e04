#!/usr/bin/env node
// node bin/node24.js SCRIPT ...ARGS: runs a script, TypeScript too, on Node 24.
import { launch } from "./launch.js"

if (process.argv[2] === undefined) {
  process.stderr.write("usage: node bin/node24.js SCRIPT ...ARGS\n")
  process.exitCode = 2
} else {
  await launch(process.argv[2], process.argv.slice(3))
}

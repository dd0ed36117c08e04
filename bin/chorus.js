#!/usr/bin/env node
import { inRoot } from "../infra/workspace.js"
import { launch } from "./launch.js"

await launch(inRoot("src/cli/main.ts"), process.argv.slice(2), ["build/Release/chorus.node"])

#!/usr/bin/env node
import { inRoot, installed } from "../infra/workspace.js"
import { launch } from "./launch.js"

const args = process.argv.slice(2)
// `doctor` is there to say what is missing, so it asks for less.
const needs = args[0] === "doctor" ? [] : ["build/Release/chorus.node"]
await launch(inRoot(`src/cli/main.${installed ? "js" : "ts"}`), args, needs)

// The first thing that is loaded: what runs this has to be new enough, and is told so before anything else fails.
import { requireNode } from "../../node.ts"

requireNode("@chorus/durable")

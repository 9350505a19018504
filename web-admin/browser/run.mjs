/** node browser/run.mjs <scene> <base URL> <first-run.json>; fails as a program when the scene does. */

import { access } from './access.mjs'
import { place } from './browser.mjs'
import { chaos } from './chaos.mjs'
import { consoleWalk } from './console.mjs'
import { desk } from './desk.mjs'
import { long } from './long.mjs'
import { ops } from './ops.mjs'
import { platform } from './platform.mjs'
import { reply } from './reply.mjs'

const SCENES = { access, chaos, console: consoleWalk, desk, long, ops, platform, reply }
const [scene, base, firstRunFile] = process.argv.slice(2)

await SCENES[scene](place(base, firstRunFile))

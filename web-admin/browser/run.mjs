/**
 * node browser/run.mjs <scene> <base URL> <first-run.json> [what the scene is given, as JSON]
 * Fails as a program when the scene does.
 */

import { access } from './access.mjs'
import { alerts } from './alerts.mjs'
import { assist } from './assist.mjs'
import { behaviour } from './behaviour.mjs'
import { blacklist } from './blacklist.mjs'
import { place } from './browser.mjs'
import { chaos } from './chaos.mjs'
import { consoleWalk } from './console.mjs'
import { delivery } from './delivery.mjs'
import { desk } from './desk.mjs'
import { factor } from './factor.mjs'
import { keyboard } from './keyboard.mjs'
import { long } from './long.mjs'
import { newcomer } from './newcomer.mjs'
import { phone } from './phone.mjs'
import { ops } from './ops.mjs'
import { platform } from './platform.mjs'
import { race } from './race.mjs'
import { reply } from './reply.mjs'
import { signOn } from './signon.mjs'
import { suspension } from './suspension.mjs'
import { takeover } from './takeover.mjs'
import { webhook } from './webhook.mjs'

const SCENES = {
  access,
  alerts,
  assist,
  behaviour,
  blacklist,
  chaos,
  console: consoleWalk,
  delivery,
  desk,
  factor,
  keyboard,
  long,
  newcomer,
  ops,
  phone,
  platform,
  race,
  reply,
  signOn,
  suspension,
  takeover,
  webhook,
}
const [scene, base, firstRunFile, given = 'null'] = process.argv.slice(2)

await SCENES[scene](place(base, firstRunFile), JSON.parse(given))

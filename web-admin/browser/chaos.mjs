/** The socket is killed twenty times while a thousand messages come: none is lost, none comes twice. */

import assert from 'node:assert/strict'
import { inBrowser, signIn, visit } from './browser.mjs'
import { callerFor } from './people.mjs'

const MESSAGES = 1_000
const KILLS = 20
const DRAWN_ROWS = 40

export async function chaos(there) {
  await inBrowser({}, async (visitor) => {
    await visit(visitor, there, '你们几点关门？')
    await visitor.waitForSelector('.row.bot')
  })
  await inBrowser({}, async (member) => {
    await member.addInitScript(() => {
      const Real = window.WebSocket
      window.sockets = []
      window.WebSocket = class extends Real {
        constructor(...given) {
          super(...given)
          window.sockets.push(this)
        }
      }
    })
    await signIn(member, there.address, there.firstRun.demo)
    await member.goto(there.address('/app/inbox'))
    await member.click('.list .row >> nth=0')
    await member.waitForSelector('.thread .message.bot')
    await member.keyboard.press('t')
    await member.waitForSelector('.composer textarea')
    const id = new URL(member.url()).pathname.split('/').at(-1)
    const kills = await write(member, there, id)
    assert.equal(kills, KILLS)
    await member.waitForSelector(`.message:has-text("#${MESSAGES}.")`)
    const said = (await readAll(member)).flatMap((text) => /#(\d+)\./.exec(text)?.[1] ?? [])
    assert.deepEqual(said.map(Number), Array.from({ length: MESSAGES }, (_, index) => index + 1))
  })
}

/** Messages of a colleague's program, and the kills in between. */
async function write(member, there, id) {
  const call = await callerFor(there, there.firstRun.demo)
  let kills = 0
  for (let number = 1; number <= MESSAGES; number += 1) {
    await call('POST', `/conversations/${id}/messages`, { segments: [{ type: 'text', text: `#${number}.` }] })
    if (number % (MESSAGES / KILLS) !== 0) continue
    kills += await member.evaluate(() => {
      window.sockets.at(-1).close()
      // Somebody comes back to the window: no need to wait.
      setTimeout(() => window.dispatchEvent(new Event('focus')), 50)
      return 1
    })
  }
  return kills
}

/** Every message of the thread from the first to the last, as a reader sees them who scrolls through. */
async function readAll(member) {
  const log = member.locator('.thread [role=log]')
  const seen = new Map()
  // To the very beginning, past all that is loaded on the way.
  await member.waitForFunction(() => {
    const view = document.querySelector('.thread [role=log]')
    view.scrollTop = 0
    return document.querySelector('.log-row')?.textContent.includes('你们几点关门')
  })
  for (;;) {
    const rows = await log.locator('.log-row').evaluateAll((all) => all.map((row) => [row.dataset.key, row.textContent]))
    assert.ok(rows.length <= DRAWN_ROWS, `${rows.length} rows are drawn`)
    for (const [key, text] of rows) seen.set(key, text)
    const isEnd = await log.evaluate((view) => {
      const before = view.scrollTop
      view.scrollTop += view.clientHeight / 2
      return view.scrollTop === before
    })
    if (isEnd) return [...seen.values()]
    await member.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))))
  }
}

/** A thread of fifty thousand messages: few rows are drawn, and what is read stays where it is. */

import assert from 'node:assert/strict'
import { inBrowser, signIn } from './browser.mjs'

const MESSAGES = 50_000
const PAGE = 5_000
const DRAWN_ROWS = 40
const NUDGE_PX = 3

export async function long(there) {
  console.log(`scrolling ${MESSAGES} messages: p95 of a frame ${(await scrolled(there)).toFixed(1)} ms`)
}

/** The 95th percentile of frames, in milliseconds, once all has been read to its beginning. */
export function scrolled(there) {
  return inBrowser({}, async (page) => {
    await signIn(page, there.address, there.firstRun.demo)
    await page.route(/\/api\/v1\/conversations\/[^/]+\/messages/, (route) =>
      route.fulfill({ json: messagesBefore(new URL(route.request().url()).searchParams.get('cursor')) }),
    )
    await page.goto(there.address('/app/inbox'))
    await page.click('.list .row >> nth=0')
    await page.waitForSelector(`.message:has-text("number ${MESSAGES} ")`)
    for (let left = MESSAGES - PAGE; left > 0; left -= PAGE) await readOlder(page, left)
    return scrollThrough(page)
  })
}

/** Newest first, the server's way; some are long, so that heights differ from what is thought. */
function messagesBefore(cursor) {
  const newest = Number(cursor ?? MESSAGES)
  const items = Array.from({ length: Math.min(PAGE, newest) }, (_, index) => {
    const number = newest - index
    const at = new Date(1_700_000_000_000 + number * 1_000).toISOString()
    const text = `number ${number} ${'很长的话 '.repeat(number % 7 === 0 ? 60 : number % 3)}`
    return {
      id: `m${number}`,
      number,
      sender: { kind: number % 2 ? 'contact' : 'bot', id: null, name: null },
      segments: [{ type: 'text', text }],
      occurred_at: at,
      created_at: at,
      delivery: null,
    }
  })
  return { items, next: newest > PAGE ? String(newest - PAGE) : null }
}

/** Scrolls to the beginning of what is loaded; when older ones come, nothing on the screen moves. */
async function readOlder(page, left) {
  const moved = await page.evaluate(async (older) => {
    const view = document.querySelector('.thread [role=log]')
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve))
    view.scrollTop = 300
    for (let settle = 0; settle < 4; settle += 1) await frame()
    const numbered = () =>
      [...document.querySelectorAll('.log-row')].map((row) => [
        Number(row.dataset.key.slice(1)),
        row.getBoundingClientRect().top - view.getBoundingClientRect().top,
      ])
    const before = new Map(numbered().filter(([, top]) => top >= 0 && top < view.clientHeight))
    // Until what is older has come: then there is something above the first that was loaded.
    while (view.scrollTop < 2_000) await frame()
    for (let settle = 0; settle < 4; settle += 1) await frame()
    const after = new Map(numbered())
    const same = [...before].filter(([number]) => after.has(number))
    return { rows: after.size, older, same: same.length, by: Math.max(...same.map(([n, top]) => Math.abs(after.get(n) - top))) }
  }, left)
  assert.ok(moved.same > 0, `nothing of what was read is still there: ${JSON.stringify(moved)}`)
  assert.ok(moved.by <= NUDGE_PX, `what is read moved by ${moved.by} px`)
  assert.ok(moved.rows <= DRAWN_ROWS, `${moved.rows} rows are drawn`)
}

/** The 95th percentile of frames while somebody scrolls. */
function scrollThrough(page) {
  return page.evaluate(async () => {
    const view = document.querySelector('.thread [role=log]')
    const times = []
    let last = performance.now()
    for (let frame = 0; frame < 200; frame += 1) {
      view.scrollTop += frame % 40 === 0 ? 50_000 : 240
      const now = await new Promise((resolve) => requestAnimationFrame(resolve))
      times.push(now - last)
      last = now
    }
    return times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.95)]
  })
}

/**
 * What a member's browser takes, as a line of JSON: node scripts/figures.mjs <base URL> <first-run.json> <bare URL>
 * Messages from their commit to the screen, beside those of a server that only tells; frames while scrolling.
 */

import { inBrowser, place, signIn, visit } from '../browser/browser.mjs'
import { scrolled } from '../browser/long.mjs'
import { callerFor } from '../browser/people.mjs'

const ROUNDS = 5
const MESSAGES = 20

const [base, firstRunFile, bareUrl] = process.argv.slice(2)
const there = place(base, firstRunFile)
const demo = there.firstRun.demo

const rendered = { ours: [], bare: [] }
await inBrowser({}, async (visitor) => {
  await visit(visitor, there, '你们几点开门？')
  await visitor.waitForSelector('.row.bot')
})
const call = await callerFor(there, demo)
const { id } = (await call('GET', '/conversations?limit=1')).items[0]
await call('POST', `/conversations/${id}/take-over`)
await inBrowser({}, async (page) => {
  const bare = await page.context().newPage()
  await bare.goto(bareUrl)
  await bare.waitForSelector('[data-ready]', { state: 'attached' })
  await signIn(page, there.address, demo)
  await page.goto(there.address(`/app/inbox/all/${id}`))
  await page.waitForSelector('.composer textarea')
  const say = async (text) => {
    const segments = [{ type: 'text', text }]
    return Date.parse((await call('POST', `/conversations/${id}/messages`, { segments })).created_at)
  }
  const tell = async (text) => Number(await (await fetch(new URL('tell', bareUrl), { method: 'POST', body: text })).text())
  // What comes first loads what comes later, on both sides.
  for (let round = 0; round <= ROUNDS; round += 1) {
    const took = { ours: await milliseconds(page, say, `o${round}`), bare: await milliseconds(bare, tell, `b${round}`) }
    if (round > 0) for (const side of ['ours', 'bare']) rendered[side].push(took[side])
  }
})
const scroll = []
for (let round = 0; round < ROUNDS; round += 1) scroll.push(await scrolled(there))
console.log(JSON.stringify({ rendered, scroll }))

/** The median from when it was said until the frame behind the one that shows it. */
async function milliseconds(page, say, name) {
  await page.bringToFront()
  const times = []
  for (let number = 1; number <= MESSAGES; number += 1) {
    const text = `#${name}.${number}.`
    await page.evaluate(expect, text)
    const at = await say(text)
    times.push((await page.evaluate(() => window.expected)) - at)
  }
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)]
}

/** Lets the page note when it has painted a text. */
function expect(text) {
  window.expected = new Promise((resolve) => {
    const painted = () => {
      const { port1, port2 } = new MessageChannel()
      port1.onmessage = () => resolve(performance.timeOrigin + performance.now())
      port2.postMessage(null)
    }
    const observer = new MutationObserver((changes) => {
      if (!changes.some(({ addedNodes }) => [...addedNodes].some((node) => node.textContent.includes(text)))) return
      observer.disconnect()
      requestAnimationFrame(painted)
    })
    observer.observe(document.body, { childList: true, subtree: true })
  })
}

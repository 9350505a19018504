/**
 * Two members take one conversation over at the same moment: one has it, the other is told so and
 * sees it, and the customer hears the one.
 */

import assert from 'node:assert/strict'
import { inBrowser, signIn, visit } from './browser.mjs'
import { callerFor, colleagueOf } from './people.mjs'

const ROUNDS = 3

export async function race(there) {
  const demo = there.firstRun.demo
  const people = [demo, await colleagueOf(there, demo)]
  await inBrowser({}, (one) =>
    inBrowser({}, async (other) => {
      const racers = []
      for (const [page, person] of [[one, people[0]], [other, people[1]]]) {
        await signIn(page, there.address, person)
        await page.goto(there.address('/app/inbox/all'))
        await page.waitForSelector('.list .row, .list .state strong')
        const call = await callerFor(there, person)
        racers.push({ page, call, id: (await call('GET', '/auth/me')).member_id })
      }
      for (let round = 0; round < ROUNDS; round++) {
        await inBrowser({}, (visitor) => once(there, racers, visitor, `我来处理 ${round}`))
      }
    }),
  )
}

async function once(there, racers, visitor, said) {
  const { call } = racers[0]
  await visit(visitor, there, '有人吗？')
  await visitor.waitForSelector('.row.bot')
  const { id } = (await call('GET', '/conversations?limit=1')).items[0]
  const meet = meetingOf(racers.length)
  for (const { page } of racers) {
    await page.click(`.list .row[href$="${id}"]`)
    await page.waitForSelector('.thread .message.bot')
    // Neither hears how it ended before both have asked.
    await page.route(/\/take-over$/, async (route) => {
      await meet()
      await route.continue()
    }, { times: 1 })
  }
  const answers = racers.map(({ page }) => page.waitForResponse(/\/take-over$/))
  for (const { page } of racers) await page.keyboard.press('t')
  const statuses = (await Promise.all(answers)).map((answer) => answer.status())
  assert.deepEqual(statuses.toSorted(), [200, 409])
  const winner = racers[statuses.indexOf(200)]
  const loser = racers[statuses.indexOf(409)]
  assert.equal((await call('GET', `/conversations/${id}`)).owner_member_id, winner.id)
  await loser.page.waitForSelector('.thread [role=alert]')
  await winner.page.fill('.composer textarea', said)
  await winner.page.press('.composer textarea', 'Enter')
  await visitor.waitForSelector(`text=${said}`)
  await loser.page.waitForSelector(`.message.human:has-text("${said}")`)
  assert.equal(await loser.page.locator('.composer textarea').count(), 0)
  assert.equal(await visitor.locator(`text=${said}`).count(), 1)
}

/** Whoever comes waits until so many have come. */
function meetingOf(count) {
  let open
  const all = new Promise((resolve) => (open = resolve))
  let come = 0
  return () => {
    come += 1
    if (come === count) open()
    return all
  }
}

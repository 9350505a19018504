/** A member blocks hundreds at once, one of whom is chatting, and lets them in again. */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { inBrowser, say, signIn, visit } from './browser.mjs'
import { callerFor, until } from './people.mjs'

const OTHERS = 499
const QUESTION = '你们几点开门？'

export async function blacklist(there) {
  const call = await callerFor(there, there.firstRun.demo)
  await inBrowser({}, async (visitor) => {
    await visit(visitor, there, QUESTION)
    await visitor.waitForSelector('.row.bot')
    const { id, contact } = (await call('GET', '/conversations?limit=1')).items[0]
    const { platform_id: person } = await call('GET', `/contacts/${contact.id}`)
    await inBrowser({}, async (member) => {
      await signIn(member, there.address, there.firstRun.demo)
      await member.goto(there.address('/app/blacklist'))
      await member.waitForSelector('table, .state strong')
      const prefix = randomBytes(4).toString('hex')
      await block(member, [person, ...Array.from({ length: OTHERS }, (_, index) => `${prefix}-${index}`)])
      await keptAway(visitor, { id, person, call })
      await shown(member, person)
      await unblock(member, OTHERS + 1)
      await heardAgain(visitor, { id, call })
    })
  })
}

const button = (place, name) => place.getByRole('button', { name })

async function block(member, people) {
  await button(member, '添加').click()
  const dialog = member.getByRole('dialog')
  await dialog.locator('textarea').fill([...people, 'one too many'].join('\n'))
  assert.ok(await button(dialog, `屏蔽 ${people.length + 1} 人`).isDisabled(), 'more at once than one call takes')
  // Twice the same and an empty line are nobody else.
  await dialog.locator('textarea').fill([...people, '', people[0]].join('\n'))
  await dialog.getByLabel('原因').fill('刷屏')
  await button(dialog, `屏蔽 ${people.length} 人`).click()
  await dialog.waitFor({ state: 'hidden' })
}

/** The bot learns of it a moment later; from then on nothing of theirs comes in. */
async function keptAway(visitor, { id, person, call }) {
  const entryOf = async () => (await call('GET', `/blacklist?platform_id=${person}`)).items[0]
  let said = 0
  await until(async () => {
    said += 1
    await spoken(visitor, `刷屏 ${said}。`)
    return (await entryOf()).hits > 0
  })
  const { last_number: before } = await call('GET', `/conversations/${id}`)
  await spoken(visitor, '还在刷屏。')
  assert.equal((await call('GET', `/conversations/${id}`)).last_number, before)
}

async function shown(member, person) {
  await member.getByLabel('平台用户 ID').fill(person)
  await button(member, '查找').click()
  const row = member.locator('tbody tr')
  await row.filter({ hasText: person }).getByText('刷屏').waitFor()
  assert.equal(await row.count(), 1)
}

/** All of them, page by page on the screen and then at once. */
async function unblock(member, people) {
  await member.getByLabel('平台用户 ID').fill('')
  await button(member, '查找').click()
  const rows = member.locator('tbody tr')
  await rows.nth(1).waitFor()
  for (let seen = await rows.count(); seen < people; seen = await rows.count()) {
    await button(member, '加载更多').click()
    await rows.nth(seen).waitFor()
  }
  await button(member, `选择所列（${people}）`).click()
  await button(member, `移除所选（${people}）`).click()
  await button(member.getByRole('dialog'), '移除').click()
  await member.getByRole('dialog').waitFor({ state: 'hidden' })
  await member.getByText('名单是空的').waitFor()
}

async function heardAgain(visitor, { id, call }) {
  const { last_number: before } = await call('GET', `/conversations/${id}`)
  let said = 0
  await until(async () => {
    said += 1
    await spoken(visitor, `又来了 ${said}。`)
    return (await call('GET', `/conversations/${id}`)).last_number > before
  })
}

/** Said, and taken by the server whatever became of it. */
async function spoken(visitor, text) {
  await say(visitor, text)
  await visitor.waitForSelector(`.row.visitor:has-text("${text}"):has-text("已送达")`)
}

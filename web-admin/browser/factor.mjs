/** A member switches the second factor on and signs in with it; the password alone does no more. */

import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { inBrowser, signIn } from './browser.mjs'
import { colleagueOf } from './people.mjs'

const STEP_MS = 30_000

export async function factor(there) {
  const person = await colleagueOf(there, there.firstRun.demo)
  await inBrowser({}, async (page) => {
    await signIn(page, there.address, person)
    const phone = await enrol(page, there)
    await page.getByRole('button', { name: '退出登录' }).click()
    await page.waitForSelector('[name=password]')
    await enter(page, person)
    await page.getByText('请再输入验证器中的验证码。').waitFor()
    assert.equal(await page.locator('nav').count(), 0, 'the password was enough')
    await page.fill('[name=code]', phone.code())
    await page.click('[type=submit] >> nth=0')
    await page.waitForSelector('nav')
    await page.goto(there.address('/app/account'))
    await page.getByText('已开启', { exact: true }).waitFor()
  })
}

/** Gives what the person's phone shows from then on. */
async function enrol(page, { address }) {
  await page.goto(address('/app/account'))
  await page.getByRole('button', { name: '开启两步验证' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByRole('img', { name: '账户二维码' }).waitFor()
  const phone = new Phone(await dialog.locator('code').first().innerText())
  await dialog.getByLabel('6 位验证码').fill(phone.code())
  await dialog.getByRole('button', { name: '确认开启' }).click()
  const codes = page.getByRole('dialog').filter({ hasText: '恢复码' }).locator('code')
  await codes.waitFor()
  assert.ok((await codes.innerText()).split('\n').length > 1, 'no recovery codes')
  await page.getByRole('dialog').getByRole('button', { name: '关闭' }).last().click()
  await page.getByText('已开启', { exact: true }).waitFor()
  return phone
}

async function enter(page, { email, password }) {
  await page.fill('[name=email]', email)
  await page.fill('[name=password]', password)
  await page.click('[type=submit] >> nth=0')
}

/** An authenticator whose owner shows no code twice; the next one is valid a little early. */
class Phone {
  #key
  #last = 0

  constructor(typed) {
    this.#key = fromBase32(typed.replace(/\s/g, ''))
  }

  code() {
    this.#last = Math.max(Math.floor(Date.now() / STEP_MS), this.#last + 1)
    const counter = Buffer.alloc(8)
    counter.writeBigUInt64BE(BigInt(this.#last))
    const mac = createHmac('sha1', this.#key).update(counter).digest()
    const number = mac.readUInt32BE(mac.at(-1) & 15) & 0x7fffffff
    return String(number % 1_000_000).padStart(6, '0')
  }
}

function fromBase32(text) {
  const bits = [...text].map((letter) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(letter).toString(2).padStart(5, '0')).join('')
  return Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)))
}

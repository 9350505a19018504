/** Every page of the dashboard, with what shows that it is there; a test compares them with the router's. */

/** Those that need no sign-in, or no place in the navigation. */
export const plainPages = [
  { name: 'sign-in', path: '/app/sign-in', ready: '[type=submit]' },
  { name: 'register', path: '/app/register', ready: '[name=company]' },
  { name: 'invitation', path: '/app/invitation#none', ready: '[name=password]' },
  { name: 'reset', path: '/app/reset', ready: '[name=email]' },
  { name: 'unreachable', path: '/app/unreachable', ready: '.state strong' },
]

/** What whoever is signed in may come across. */
export const noticePages = [{ name: 'missing', path: '/app/nowhere', ready: 'section.page h1' }]

export const inboxPages = [{ name: 'inbox', path: '/app/inbox', ready: '.list .row' }]

/** A bot's pages are found by its link on the overview. */
export async function memberPages(page, address) {
  await page.goto(address('/app/overview'))
  const bot = await page.getAttribute('article h2 a', 'href')
  return [
    { name: 'overview', path: '/app/overview', ready: 'article' },
    { name: 'bot', path: bot, ready: '.steps' },
    { name: 'channels', path: `${bot}/channels`, ready: 'article' },
    { name: 'behaviour', path: `${bot}/behaviour`, ready: 'footer' },
    { name: 'versions', path: `${bot}/versions`, ready: 'table:visible, .state strong' },
    { name: 'logs', path: `${bot}/logs`, ready: '[role=log], .state strong' },
    { name: 'search', path: '/app/search', ready: 'form[role=search]' },
    { name: 'contacts', path: '/app/contacts', ready: '.contacts .row, .state strong' },
    { name: 'providers', path: '/app/providers', ready: 'table:visible, .state strong' },
    { name: 'answers', path: '/app/answers', ready: 'ol' },
    { name: 'blacklist', path: '/app/blacklist', ready: 'table:visible, .state strong' },
    { name: 'routing', path: '/app/routing', ready: 'form footer, .state strong' },
    { name: 'routing-members', path: '/app/routing/members', ready: 'table:visible, .state strong' },
    { name: 'ratings', path: '/app/routing/ratings', ready: '.period' },
    { name: 'team', path: '/app/team', ready: 'table:visible' },
    { name: 'sign-on', path: '/app/sign-on', ready: 'form' },
    { name: 'webhooks', path: '/app/webhooks', ready: 'table:visible, .state strong' },
    // Of no endpoint: a demo has none.
    { name: 'webhook', path: '/app/webhooks/00000000-0000-7000-8000-000000000000', ready: '.state strong' },
    { name: 'api-keys', path: '/app/api-keys', ready: 'table:visible, .state strong' },
    { name: 'company', path: '/app/company', ready: 'progress' },
    { name: 'dead-letters', path: '/app/dead-letters', ready: 'table:visible, .state strong' },
    { name: 'audit', path: '/app/audit', ready: 'table:visible' },
    { name: 'account', path: '/app/account', ready: 'table:visible' },
  ]
}

/** An instance of the fleet is found in its list. */
export async function operatorPages(page, address) {
  await page.goto(address('/app/ops/fleet'))
  const instance = await page.getAttribute('tbody a', 'href')
  return [
    { name: 'tenants', path: '/app/ops/tenants', ready: 'table:visible' },
    { name: 'plans', path: '/app/ops/plans', ready: 'table:visible' },
    { name: 'fleet', path: '/app/ops/fleet', ready: 'table:visible' },
    { name: 'fleet-instance', path: instance, ready: '.page-head h1' },
    { name: 'rollouts', path: '/app/ops/rollouts', ready: 'table:visible, .state strong' },
    { name: 'queues', path: '/app/ops/queues', ready: 'table:visible' },
    { name: 'ops-audit', path: '/app/ops/audit', ready: 'table:visible, .state strong' },
  ]
}

/** Dialogs by the name of their page: what opens them, wherever it always stands. */
export const dialogs = {
  overview: ['.page-head button >> nth=0'],
  bot: ['.page-head button >> nth=0', '.page-head button >> nth=-1'],
  channels: ['.page-head .el-button--primary', 'article button >> nth=1', 'article button >> nth=2'],
  providers: ['.page-head .el-button--primary'],
  blacklist: ['.page-head .el-button--primary'],
  team: ['.page-head .el-button--primary', '.page button >> nth=-1'],
  'api-keys': ['.page-head .el-button--primary'],
  tenants: [0, 1, 2, 3].map((nth) => `table >> nth=0 >> tbody tr >> nth=-1 >> button >> nth=${nth}`),
  plans: ['.page-head .el-button--primary', 'tbody button >> nth=0'],
  rollouts: ['.page-head button >> nth=-1'],
}

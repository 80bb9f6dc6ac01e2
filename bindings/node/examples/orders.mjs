// Code of one's own, which takes a client rather than making one; orders.test.mjs tests it.

/** How many orders there are. */
export async function countOrders(api) {
  const answer = await api.fetch('orders');
  if (!answer.ok) throw new Error(`the API answered ${answer.status}`);
  return (await answer.json()).orders.length;
}
